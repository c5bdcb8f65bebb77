# The one script that runs on a Hyper-V host. Windows PowerShell 5.1 and PowerShell 7.
#
# Requests come as lines on standard input, answers go as lines to standard output: base64 of UTF-8 of
# CLIXML, ASCII only, so that code pages don't matter and no value ever becomes source text. The frames are
# described in frames.py. The language and .NET only, beside the cmdlets that are asked for.
#
# It lives by a lease: when nothing has been heard for LeaseSeconds, or the input ends, it lets the running
# cmdlet finish, dismounts what it mounted, and goes.
param($Reader, [int] $LeaseSeconds = 180)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$allowed = @(
    'Get-VHD', 'Mount-VHD', 'Dismount-VHD', 'Test-VHD', 'Get-Disk', 'Set-Disk', 'Get-Partition',
    'Add-PartitionAccessPath', 'Remove-PartitionAccessPath', 'Get-Volume', 'Add-WindowsPackage', 'Get-WindowsPackage'
)
$utf8 = [Text.UTF8Encoding]::new($false)
$output = [Console]::OpenStandardOutput()
if (-not $Reader) { $Reader = [IO.StreamReader]::new([Console]::OpenStandardInput()) }

$state = @{ Heard = [DateTime]::UtcNow; Running = $null; Closing = $false }
$mounted = [Collections.Generic.List[string]]::new()
$history = @{}                                               # answers by number: a request runs once
$waiting = [Collections.Generic.Queue[object]]::new()        # requests that came while a cmdlet ran

function Send-Frame([hashtable] $Frame) {
    $xml = [Management.Automation.PSSerializer]::Serialize($Frame, 4)
    $bytes = [Text.Encoding]::ASCII.GetBytes([Convert]::ToBase64String($utf8.GetBytes($xml)) + "`n")
    $output.Write($bytes, 0, $bytes.Length)
    $output.Flush()
}

function Send-Answer($Number, [string] $Kind, [hashtable] $Content) {
    $frame = @{ number = $Number; kind = $Kind } + $Content
    if (-not $history.ContainsKey($Number)) {
        if ($history.Count -ge 64) { $history.Clear() }
        $history[$Number] = [Collections.Generic.List[hashtable]]::new()
    }
    if ($Kind -ne 'progress') { $history[$Number].Add($frame) }
    Send-Frame $frame
}

function Get-Failure($Exception, [string] $Category, [string] $Id) {
    $inner = $Exception
    while ($inner.InnerException) { $inner = $inner.InnerException }
    @{
        message   = [string] $inner.Message
        hresult   = [long] $inner.HResult -band 0xFFFFFFFFL
        exception = $inner.GetType().FullName
        category  = $Category
        errorid   = $Id
    }
}

function Send-Record($Number, $Record) {
    Send-Answer $Number 'error' (Get-Failure $Record.Exception ([string] $Record.CategoryInfo) $Record.FullyQualifiedErrorId)
}

# Cmdlets run on a runspace of their own, so that their streams can be read while they run.
$runspace = [runspacefactory]::CreateRunspace([initialsessionstate]::CreateDefault2())
$runspace.Open()

function Start-Cmdlet($Request) {
    $shell = [powershell]::Create()
    $shell.Runspace = $runspace
    [void] $shell.AddCommand($Request.cmdlet)
    foreach ($name in $Request.parameters.Keys) { [void] $shell.AddParameter($name, $Request.parameters[$name]) }
    $nothing = [Management.Automation.PSDataCollection[psobject]]::new()
    $nothing.Complete()
    $results = [Management.Automation.PSDataCollection[psobject]]::new()
    $state.Running = @{
        Request = $Request; Shell = $shell; Results = $results; Failed = $false
        Handle = $shell.BeginInvoke($nothing, $results)
    }
}

function Read-Streams {
    $number = $state.Running.Request.number
    $streams = $state.Running.Shell.Streams
    foreach ($record in $streams.Progress.ReadAll()) {
        Send-Answer $number 'progress' @{ activity = $record.Activity; status = $record.StatusDescription; percent = $record.PercentComplete }
    }
    foreach ($record in $streams.Warning.ReadAll()) { Send-Answer $number 'warning' @{ message = $record.Message } }
    foreach ($record in $streams.Error.ReadAll()) { $state.Running.Failed = $true; Send-Record $number $record }
}

function Complete-Cmdlet {
    $running = $state.Running
    $request = $running.Request
    try { [void] $running.Shell.EndInvoke($running.Handle) }
    catch {
        Read-Streams
        $running.Failed = $true
        # The deepest exception that carries a record is the cmdlet's own.
        $record = $null
        for ($inner = $_.Exception; $inner; $inner = $inner.InnerException) {
            if ($inner.PSObject.Properties['ErrorRecord']) { $record = $inner.ErrorRecord }
            $last = $inner
        }
        if ($record) { Send-Record $request.number $record }
        else { Send-Answer $request.number 'error' (Get-Failure $last 'OperationStopped' '') }
    }
    Read-Streams
    foreach ($result in $running.Results) {
        $plain = @{}
        foreach ($name in $request.properties) {
            $property = $result.PSObject.Properties[$name]
            # Not as the value of an if: that would unroll a list of one.
            if ($property) { $plain[$name] = $property.Value } else { $plain[$name] = $null }
        }
        Send-Answer $request.number 'result' @{ properties = $plain }
    }
    if (-not $running.Failed) {
        $path = $request.parameters['Path']
        if ($request.cmdlet -eq 'Mount-VHD') { $mounted.Add($path) }
        if ($request.cmdlet -eq 'Dismount-VHD') { [void] $mounted.Remove($path) }
    }
    $running.Shell.Dispose()
    $state.Running = $null
    Send-Answer $request.number 'end' @{}
}

function New-PrivateDirectory([string] $Path) {
    if ([IO.File]::Exists($Path) -or [IO.Directory]::Exists($Path)) { throw [IO.IOException]::new("'$Path' is there already.") }
    $info = [IO.Directory]::CreateDirectory($Path)
    if ([Environment]::OSVersion.Platform -eq 'Unix') {
        # Only in .NET 7 and later, so by its name: rwx for the owner.
        $modes = [IO.File].Assembly.GetType('System.IO.UnixFileMode')
        $method = [IO.File].GetMethod('SetUnixFileMode', [type[]] @([string], $modes))
        [void] $method.Invoke($null, @($Path, [Enum]::ToObject($modes, 448)))
        return
    }
    $rights = [Security.AccessControl.DirectorySecurity]::new()
    $rights.SetAccessRuleProtection($true, $false)
    $user = [Security.Principal.WindowsIdentity]::GetCurrent().User
    foreach ($sid in @($user, [Security.Principal.SecurityIdentifier]::new('S-1-5-18'), [Security.Principal.SecurityIdentifier]::new('S-1-5-32-544'))) {
        $rule = [Security.AccessControl.FileSystemAccessRule]::new($sid, 'FullControl', 'ContainerInherit,ObjectInherit', 'None', 'Allow')
        $rights.AddAccessRule($rule)
    }
    $extensions = 'System.IO.FileSystemAclExtensions' -as [type]    # where PowerShell 7 keeps it
    if ($extensions) { $extensions::SetAccessControl($info, $rights) } else { $info.SetAccessControl($rights) }
}

function Get-Hash([string] $Path) {
    $stream = [IO.File]::OpenRead($Path)
    $sha = [Security.Cryptography.SHA256]::Create()
    try { [BitConverter]::ToString($sha.ComputeHash($stream)).Replace('-', '').ToLowerInvariant() }
    finally { $sha.Dispose(); $stream.Dispose() }
}

# File operations: each takes the request's parameters and gives plain data, or throws.
$operations = @{
    'make-private-directory' = { param($p) New-PrivateDirectory $p.path; @{} }
    'make-directory' = {
        param($p)
        if ([IO.File]::Exists($p.path) -or [IO.Directory]::Exists($p.path)) { throw [IO.IOException]::new("'$($p.path)' is there already.") }
        [void] [IO.Directory]::CreateDirectory($p.path)
        @{}
    }
    'remove-directory' = {
        param($p)
        # Only an empty one that is no mount point: never what lies behind it.
        $info = [IO.DirectoryInfo]::new($p.path)
        if ($info.Exists) {
            if ($info.Attributes -band [IO.FileAttributes]::ReparsePoint) { throw [IO.IOException]::new("'$($p.path)' is a mount point or link.") }
            [IO.Directory]::Delete($p.path, $false)
        }
        @{}
    }
    'stat' = {
        param($p)
        $file = [IO.FileInfo]::new($p.path)
        $isDirectory = [IO.Directory]::Exists($p.path)
        $exists = $file.Exists -or $isDirectory
        @{
            exists = $exists; directory = $isDirectory
            size = if ($file.Exists) { $file.Length } else { 0L }
            written = if ($exists) { $file.LastWriteTimeUtc } else { $null }
            attributes = if ($exists) { [int] $file.Attributes } else { 0 }
        }
    }
    'copy' = { param($p) [IO.File]::Copy($p.source, $p.target, $false); @{} }
    'sha256' = { param($p) @{ sha256 = Get-Hash $p.path } }
    'rename' = { param($p) [IO.File]::Move($p.source, $p.target); @{} }
    'delete' = { param($p) [IO.File]::Delete($p.path); @{} }
    'write' = {
        param($p)
        $bytes = [Convert]::FromBase64String($p.base64)
        $mode = if ($p.offset -eq 0) { [IO.FileMode]::CreateNew } else { [IO.FileMode]::Open }
        $stream = [IO.FileStream]::new($p.path, $mode, [IO.FileAccess]::Write)
        try { $stream.Position = $p.offset; $stream.Write($bytes, 0, $bytes.Length) } finally { $stream.Dispose() }
        @{}
    }
    'in-use' = {
        param($p)
        try { [IO.FileStream]::new($p.path, [IO.FileMode]::Open, [IO.FileAccess]::ReadWrite, [IO.FileShare]::None).Dispose(); @{ inuse = $false } }
        catch [IO.IOException] { @{ inuse = $true } }
    }
}

function Start-Request($Request) {
    $number = $Request.number
    if ($Request.operation -eq 'invoke') {
        if ($allowed -notcontains $Request.cmdlet) {
            Send-Answer $number 'error' (Get-Failure ([InvalidOperationException]::new("The cmdlet $($Request.cmdlet) is not on the list of those that may be asked for.")) 'PermissionDenied' 'NotAllowed')
            Send-Answer $number 'end' @{}
            return
        }
        Start-Cmdlet $Request
        return
    }
    try {
        if ($Request.operation -eq 'close') { $state.Closing = $true; $result = @{} }
        elseif ($operations.ContainsKey($Request.operation)) { $result = & $operations[$Request.operation] $Request.parameters }
        else { throw [InvalidOperationException]::new("There is no operation $($Request.operation).") }
        Send-Answer $number 'result' @{ properties = $result }
    }
    catch { Send-Record $number $_ }
    Send-Answer $number 'end' @{}
}

function Receive-Line([string] $Line) {
    $state.Heard = [DateTime]::UtcNow
    $request = [Management.Automation.PSSerializer]::Deserialize($utf8.GetString([Convert]::FromBase64String($Line)))
    if ($request.operation -eq 'renew') { return }
    if ($request.operation -eq 'cancel') {
        if ($state.Running -and $state.Running.Request.number -eq $request.parameters.number) { [void] $state.Running.Shell.BeginStop($null, $null) }
        return
    }
    if ($history.ContainsKey($request.number)) {
        # Seen before: its answers are sent again, and nothing runs twice.
        foreach ($frame in $history[$request.number].ToArray()) { Send-Frame $frame }
        return
    }
    $history[$request.number] = [Collections.Generic.List[hashtable]]::new()
    $waiting.Enqueue($request)
}

$edition = if ($PSVersionTable.ContainsKey('PSEdition')) { $PSVersionTable.PSEdition } else { 'Desktop' }
Send-Frame @{
    number = 0; kind = 'hello'; protocol = 1; version = [string] $PSVersionTable.PSVersion; edition = $edition
    system = [Environment]::OSVersion.VersionString; computer = [Environment]::MachineName; process = $PID
}

try {
    $line = $Reader.ReadLineAsync()
    $ended = $false
    while ($true) {
        if ($state.Running) {
            Read-Streams
            if ($state.Running.Handle.IsCompleted) { Complete-Cmdlet }
        }
        while (-not $state.Running -and $waiting.Count) { Start-Request $waiting.Dequeue() }
        if ($state.Closing) { break }
        if ($ended -or ([DateTime]::UtcNow - $state.Heard).TotalSeconds -gt $LeaseSeconds) {
            if (-not $state.Running -and -not $waiting.Count) { break }
            [Threading.Thread]::Sleep(20)
            continue
        }
        $patience = if ($state.Running) { 20 } else { 500 }
        if ($line.Wait($patience)) {
            if ($null -eq $line.Result) { $ended = $true; continue }
            Receive-Line $line.Result
            $line = $Reader.ReadLineAsync()
        }
    }
}
finally {
    # The newest first. A dismount that fails is nobody's to hear any more.
    for ($index = $mounted.Count - 1; $index -ge 0; $index--) {
        $shell = [powershell]::Create()
        $shell.Runspace = $runspace
        try { [void] $shell.AddCommand('Dismount-VHD').AddParameter('Path', $mounted[$index]).Invoke() } catch { }
        $shell.Dispose()
    }
    $runspace.Dispose()
}

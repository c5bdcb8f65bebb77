# The one script that runs on a Hyper-V host. Windows PowerShell 5.1 and PowerShell 7.
#
# It reads requests as lines from standard input and writes answers as lines to standard output: base64 of
# UTF-8 of CLIXML, ASCII only, so that code pages don't matter and no value ever becomes source text.
# frames.py describes the frames. Beside the requested cmdlets it uses the language and .NET only.
#
# It lives by a lease: after LeaseSeconds without input, or at the end of the input, it lets the running
# cmdlet finish, removes the access paths that it added, dismounts the disks that it mounted (but for those
# before a 'commit'), deletes what it was told to own, and exits.
param($Reader, [int] $LeaseSeconds = 180)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$allowed = @(
    'Get-VHD', 'Mount-VHD', 'Dismount-VHD', 'Test-VHD', 'New-VHD', 'Convert-VHD', 'Optimize-VHD',
    'Get-DiskImage', 'Mount-DiskImage', 'Dismount-DiskImage',
    'Get-Disk', 'Set-Disk', 'Get-Partition', 'Get-VMHardDiskDrive',
    'Add-PartitionAccessPath', 'Remove-PartitionAccessPath', 'Get-Volume', 'Add-WindowsPackage', 'Get-WindowsPackage', 'Get-WindowsImage',
    'Get-VMHost', 'Get-VM', 'Get-VMIntegrationService', 'Enable-VMIntegrationService', 'Disable-VMIntegrationService'
)
$utf8 = [Text.UTF8Encoding]::new($false)
$self = $MyInvocation.MyCommand.ScriptBlock                  # this script as it runs, for its hash
$output = [Console]::OpenStandardOutput()
if (-not $Reader) { $Reader = [IO.StreamReader]::new([Console]::OpenStandardInput()) }

$state = @{ Heard = [DateTime]::UtcNow; Running = $null; Awaiting = $null; Kept = 0; Newest = 0; Ended = $false; Line = $null; Writing = $null }
$undo = [Collections.Generic.List[hashtable]]::new()         # cmdlets that the end of the session runs, the newest first
$owned = [Collections.Generic.List[string]]::new()           # files and directories, deleted at the end
$kept = @{}                                                  # kept results by number, for later requests
$opened = @{}                                                # files open for reading, by the client's number
$history = @{}                                               # answers by number of the request, for repetitions
$order = [Collections.Generic.Queue[long]]::new()
$waiting = [Collections.Generic.Queue[object]]::new()        # requests received while a cmdlet ran
$pending = [Text.StringBuilder]::new()                       # output: several frames in one write

$longestHistory = 64
$mostBytes = 16MB                                            # of file contents in one answer

function Send-Pending {
    # One asynchronous write at a time: waiting for a client that no longer reads would outlive the lease.
    if ($pending.Length -eq 0 -or ($state.Writing -and -not $state.Writing.IsCompleted)) { return }
    $bytes = [Text.Encoding]::ASCII.GetBytes($pending.ToString())
    [void] $pending.Clear()
    $state.Writing = $output.WriteAsync($bytes, 0, $bytes.Length)
}

function Test-Unsent { $pending.Length -gt 0 -or ($state.Writing -and -not $state.Writing.IsCompleted) }

$refused = [char[]] @(0xFFFE, 0xFFFF)                        # not allowed in XML: the serializer throws
$stand = [Guid]::NewGuid().ToString('n')                     # marks their placeholders in its input

function Protect-Text($Value) {
    if ($Value -is [string]) {
        foreach ($character in $refused) { $Value = $Value.Replace([string] $character, $stand + ([int] $character).ToString('X4') + $stand) }
        return $Value
    }
    if ($Value -is [Collections.IDictionary]) {
        $table = @{}
        foreach ($key in $Value.Keys) { $table[(Protect-Text $key)] = Protect-Text $Value[$key] }
        return $table
    }
    if ($Value -is [Collections.IList] -and $Value -isnot [byte[]]) { return , @(foreach ($item in $Value) { Protect-Text $item }) }
    $Value
}

function ConvertTo-Xml([hashtable] $Frame) {
    try { return [Management.Automation.PSSerializer]::Serialize($Frame, 4) } catch { }
    $xml = [Management.Automation.PSSerializer]::Serialize((Protect-Text $Frame), 4)
    foreach ($character in $refused) {
        $code = ([int] $character).ToString('X4')
        $xml = $xml.Replace($stand + $code + $stand, '_x' + $code + '_')
    }
    $xml
}

function Send-Frame([hashtable] $Frame) {
    $data = $null
    if ($Frame.ContainsKey('data')) { $data = $Frame['data']; $Frame = $Frame.Clone(); $Frame.Remove('data') }
    try { $xml = ConvertTo-Xml $Frame }
    catch {
        $data = $null
        $failure = Get-Failure ([InvalidOperationException]::new('The host cannot write what it found.')) 'InvalidData' 'NotSerializable'
        $xml = [Management.Automation.PSSerializer]::Serialize((@{ number = $Frame.number; kind = 'error' } + $failure), 4)
    }
    [void] $pending.Append([Convert]::ToBase64String($utf8.GetBytes($xml))).Append("`n")
    # Bytes follow the frame in a line of their own: within it they would be base64-encoded twice.
    if ($null -ne $data) { [void] $pending.Append(':').Append([Convert]::ToBase64String($data)).Append("`n") }
    if ($pending.Length -gt 65536) { Send-Pending }
}

function Send-Answer($Number, [string] $Kind, [hashtable] $Content) {
    $frame = @{ number = $Number; kind = $Kind } + $Content
    if ($history.ContainsKey($Number) -and $Kind -ne 'progress') { $history[$Number].Add($frame) }
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

# Cmdlets run in a separate runspace, so that their streams can be read meanwhile.
$runspace = [runspacefactory]::CreateRunspace([initialsessionstate]::CreateDefault2())
$runspace.Open()

function Start-Work($Request, $Shell) {
    $nothing = [Management.Automation.PSDataCollection[psobject]]::new()
    $nothing.Complete()
    $results = [Management.Automation.PSDataCollection[psobject]]::new()
    $state.Running = @{
        Request = $Request; Shell = $Shell; Results = $results; Failed = $false; Stopped = $false
        Handle = $Shell.BeginInvoke($nothing, $results)
    }
}

function Start-Cmdlet($Request) {
    $shell = [powershell]::Create()
    $shell.Runspace = $runspace
    [void] $shell.AddCommand($Request.cmdlet)
    foreach ($name in $Request.parameters.Keys) { [void] $shell.AddParameter($name, $Request.parameters[$name]) }
    foreach ($name in $Request.references.Keys) { [void] $shell.AddParameter($name, $kept[[long] $Request.references[$name]]) }
    Start-Work $Request $shell
}

function Start-Lengthy($Request) {
    $shell = [powershell]::Create()
    $shell.Runspace = $runspace
    [void] $shell.AddScript([string] $lengthy[$Request.operation])
    foreach ($name in $Request.parameters.Keys) { [void] $shell.AddParameter($name, $Request.parameters[$name]) }
    Start-Work $Request $shell
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
        # The innermost exception with an ErrorRecord is the cmdlet's own.
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
        if ($request.operation -ne 'invoke') {
            Send-Answer $request.number 'result' @{ properties = $result.PSObject.BaseObject }
            continue
        }
        $plain = @{}
        foreach ($name in $request.properties) {
            if ($name -eq '*') { $plain[$name] = @(foreach ($item in $result.PSObject.Properties) { $item.Name + ' ' + $item.TypeNameOfValue }); continue }
            $property = $result.PSObject.Properties[$name]
            # Not as the value of an if statement, which would unroll a list of one element.
            if ($property) { $plain[$name] = $property.Value } else { $plain[$name] = $null }
        }
        $content = @{ properties = $plain }
        if ($request.keep) {
            $state.Kept++
            $kept[[long] $state.Kept] = $result
            $content['reference'] = $state.Kept
        }
        Send-Answer $request.number 'result' $content
    }
    Add-ToUndo $request ($running.Failed -and -not $running.Stopped)
    $running.Shell.Dispose()
    $state.Running = $null
    Send-Answer $request.number 'end' @{}
}

# What undoes a cmdlet, and the parameter that names what it did it to.
$undoing = @{
    'Mount-VHD' = @('Dismount-VHD', 'Path'); 'Mount-DiskImage' = @('Dismount-DiskImage', 'ImagePath')
    'Add-PartitionAccessPath' = @('Remove-PartitionAccessPath', 'AccessPath')
}

function Add-ToUndo($Request, [bool] $Failed) {
    # Note what the end of the session is to undo. A cancelled cmdlet may have done its work; a failed one did not:
    # what is there may be another process's.
    if ($Failed) { return }
    if ($undoing.ContainsKey($Request.cmdlet)) {
        $cmdlet, $name = $undoing[$Request.cmdlet]
        foreach ($item in $Request.parameters[$name]) {
            $given = @{ $name = $item }
            if ($name -eq 'AccessPath') { $given = $Request.parameters }
            $undo.Add(@{ Cmdlet = $cmdlet; Parameters = $given; Subject = $item })
        }
    }
    foreach ($pair in $undoing.Values) {
        if ($pair[0] -ne $Request.cmdlet) { continue }
        foreach ($item in $Request.parameters[$pair[1]]) {
            for ($index = $undo.Count - 1; $index -ge 0; $index--) {
                if ($undo[$index].Cmdlet -eq $pair[0] -and $undo[$index].Subject -ceq $item) { $undo.RemoveAt($index) }
            }
        }
    }
}

function Wait-ForServicing {
    # True once no process of DISM is left that this one has started; false where one goes on for minutes.
    $end = [DateTime]::UtcNow.AddMinutes(10)
    while ($true) {
        $shell = [powershell]::Create()
        $shell.Runspace = $runspace
        try { $found = $shell.AddScript([string] $lengthy['servicing']).AddParameter('parents', @($PID)).Invoke() } catch { return $true }
        finally { $shell.Dispose() }
        if (-not $found[0]['processes'].Count) { return $true }
        if ([DateTime]::UtcNow -gt $end) { return $false }
        [Threading.Thread]::Sleep(1000)
    }
}

function Invoke-AtEnd([string] $Cmdlet, [hashtable] $Parameters) {
    # No client is left to report a failure to.
    $shell = [powershell]::Create()
    $shell.Runspace = $runspace
    [void] $shell.AddCommand($Cmdlet)
    foreach ($name in $Parameters.Keys) { [void] $shell.AddParameter($name, $Parameters[$name]) }
    try { $shell.Invoke() } catch { } finally { $shell.Dispose() }
}

function New-PrivateDirectory([string] $Path) {
    if ([IO.File]::Exists($Path) -or [IO.Directory]::Exists($Path)) { throw [IO.IOException]::new("'$Path' is there already.") }
    # Made with its access control: others could open what is private only a moment later.
    if ([Environment]::OSVersion.Platform -eq 'Unix') {
        # By reflection, for .NET has it since version 7 only: rwx for the owner.
        $modes = [IO.File].Assembly.GetType('System.IO.UnixFileMode')
        $method = [IO.Directory].GetMethod('CreateDirectory', [type[]] @([string], $modes))
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
    $extensions = 'System.IO.FileSystemAclExtensions' -as [type]    # where .NET 5 and later have it
    if ($extensions) { $extensions::Create([IO.DirectoryInfo]::new($Path), $rights) }
    else { [void] [IO.Directory]::CreateDirectory($Path, $rights) }
}

function Test-Entry([string] $Path) {
    # True for anything of that name, also for a link to nothing, which .NET says is not there.
    try { [void] [IO.File]::GetAttributes($Path); $true } catch [IO.FileNotFoundException], [IO.DirectoryNotFoundException] { $false }
}

function Test-Link([string] $Path) { [IO.File]::GetAttributes($Path) -band [IO.FileAttributes]::ReparsePoint }

function Remove-Entry([string] $Path) {
    # An empty directory, or a link or mount point to one; a link to nothing is a file where there is no Windows.
    try { [IO.Directory]::Delete($Path, $false) } catch [IO.DirectoryNotFoundException] { [IO.File]::Delete($Path) }
}

function Remove-Tree([string] $Path) {
    # Everything in a directory, and itself. Of links and mount points themselves, never what is behind them.
    if (-not (Test-Link $Path)) {
        foreach ($file in [IO.Directory]::GetFiles($Path)) { [IO.File]::SetAttributes($file, 'Normal'); [IO.File]::Delete($file) }
        foreach ($folder in [IO.Directory]::GetDirectories($Path)) { Remove-Tree $folder }
    }
    Remove-Entry $Path
}


# Operations that may take minutes run in the runspace, as cmdlets do, so that the lease can be renewed.
$lengthy = @{
    'servicing' = {
        # The processes of DISM, started by one of these, that have not ended: they outlive their cmdlet.
        param($parents)
        $found = @()
        if ([Environment]::OSVersion.Platform -ne 'Unix' -or $env:IMAGETOOL_EMULATED -eq '1') {
            try { $found = @(Get-CimInstance -ClassName Win32_Process -Filter "Name = 'dismhost.exe'" -ErrorAction Stop | Where-Object { $parents -contains $_.ParentProcessId }) }
            # Who started a process cannot be asked: each may be ours.
            catch { $found = @([Diagnostics.Process]::GetProcessesByName('dismhost') | ForEach-Object { @{ ProcessId = $_.Id } }) }
        }
        @{ processes = [long[]] @(foreach ($item in $found) { $item.ProcessId }) }
    }
    'import-module' = { param($path) Import-Module -Name $path -ErrorAction Stop; @{} }
    'copy' = { param($source, $target) [IO.File]::Copy($source, $target, $false); @{} }
    'sha256' = {
        [CmdletBinding()] param($path)
        $stream = [IO.FileStream]::new($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::Read, 1)
        $sha = [Security.Cryptography.SHA256]::Create()
        try {
            $buffer = [byte[]]::new(4MB)
            $done = 0L
            $shown = -1
            while ($true) {
                $count = $stream.Read($buffer, 0, $buffer.Length)
                if ($count -eq 0) { break }
                [void] $sha.TransformBlock($buffer, 0, $count, $null, 0)
                $done += $count
                $percent = [int] [Math]::Min(100, 100 * $done / [Math]::Max($stream.Length, 1))
                if ($percent -ne $shown) {
                    $shown = $percent
                    $record = [Management.Automation.ProgressRecord]::new(0, 'sha256', $path)
                    $record.PercentComplete = $percent
                    $PSCmdlet.WriteProgress($record)
                }
            }
            [void] $sha.TransformFinalBlock($buffer, 0, 0)
            @{ sha256 = [BitConverter]::ToString($sha.Hash).Replace('-', '').ToLowerInvariant() }
        }
        finally { $sha.Dispose(); $stream.Dispose() }
    }
}

function Get-Target([string] $Path) {
    # The final target of a symbolic link; null where it is none, or .NET is older than version 6.
    $method = [IO.File].GetMethod('ResolveLinkTarget')
    if (-not $method) { return $null }
    $target = $method.Invoke($null, @([IO.Path]::GetFullPath($Path), $true))
    if ($target) { $target.FullName }
}

function Open-Image($Request) {
    # Open with all sharing, then without write sharing: a sharing violation means that it is open for writing.
    $path = $Request.path
    if ([IO.Directory]::Exists($path)) { throw [IO.IOException]::new("'$path' is a directory.") }
    $target = Get-Target $path
    if ([Environment]::OSVersion.Platform -eq 'Unix') {
        # Pipes and devices have no length; opening one may never end.
        $info = [IO.FileInfo]::new($(if ($target) { $target } else { $path }))
        if ($info.Exists -and $info.Length -eq 0) {
            return @{ size = 0L; busy = $false; written = $info.LastWriteTimeUtc; target = $target; lengths = [int[]]::new($Request.ranges.Count / 3); data = [byte[]]::new(0) }
        }
    }
    $share = [IO.FileShare] 'ReadWrite, Delete'
    $stream = [IO.FileStream]::new($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, $share, 1)
    $busy = $false
    try { [IO.FileStream]::new($path, [IO.FileMode]::Open, [IO.FileAccess]::Read, [IO.FileShare]::Read, 1).Dispose() }
    catch [IO.IOException] { $busy = $true }
    if ($opened.ContainsKey($Request.file)) { $opened[$Request.file].Dispose() }
    $opened[$Request.file] = $stream
    @{ size = $stream.Length; busy = $busy; written = [IO.File]::GetLastWriteTimeUtc($path); target = $target } + (Read-Ranges $Request.ranges)
}

function Read-Ranges($Ranges) {
    # Ranges are triples: file, offset, length. Their bytes are concatenated and deflated.
    $total = 0L
    for ($i = 0; $i -lt $Ranges.Count; $i += 3) {
        if ($Ranges[$i + 1] -lt 0 -or $Ranges[$i + 2] -lt 0 -or $Ranges[$i + 2] -gt $mostBytes) { throw [ArgumentException]::new('A range makes no sense.') }
        $total += $Ranges[$i + 2]
    }
    if ($total -gt $mostBytes) { throw [ArgumentException]::new("$total bytes are more than one answer may hold.") }
    $memory = [IO.MemoryStream]::new()
    $packer = [IO.Compression.DeflateStream]::new($memory, [IO.Compression.CompressionLevel]::Fastest, $true)
    $lengths = [Collections.Generic.List[int]]::new()
    for ($i = 0; $i -lt $Ranges.Count; $i += 3) {
        $stream = $opened[$Ranges[$i]]
        if (-not $stream) { throw [ArgumentException]::new("File $($Ranges[$i]) is not open.") }
        $wanted = [int] $Ranges[$i + 2]
        $buffer = [byte[]]::new($wanted)
        [void] $stream.Seek($Ranges[$i + 1], [IO.SeekOrigin]::Begin)
        $done = 0
        while ($done -lt $wanted) {
            $count = $stream.Read($buffer, $done, $wanted - $done)
            if ($count -eq 0) { break }
            $done += $count
        }
        $packer.Write($buffer, 0, $done)
        $lengths.Add($done)
    }
    $packer.Dispose()
    @{ lengths = $lengths.ToArray(); data = $memory.ToArray() }
}

function Get-List([string] $Path) {
    # The entries of a directory, each a text: d for a directory or f, the name, and behind a NUL the target of a link.
    $folder = $Path
    if ($folder -eq '') { $folder = '.' }
    if (-not [IO.Directory]::Exists($folder)) { return @{ missing = $true } }
    $entries = [Collections.Generic.List[string]]::new()
    try {
        foreach ($entry in [IO.DirectoryInfo]::new($folder).EnumerateFileSystemInfos()) {
            $text = 'f' + $entry.Name
            if ($entry.Attributes -band [IO.FileAttributes]::Directory) {
                $text = 'd' + $entry.Name
                if ($entry.Attributes -band [IO.FileAttributes]::ReparsePoint) { $text += [char] 0 + [string] @($entry.Target)[0] }
            }
            $entries.Add($text)
            if ($entries.Count -gt 1000000) { throw [IO.IOException]::new('It holds more than a million names.') }
        }
    } catch { return @{ error = $_.Exception.GetBaseException().Message } }
    @{ entries = $entries.ToArray() }
}

function Get-VolumeOf([string] $Path) {
    $full = [IO.Path]::GetFullPath($Path)
    if ($full.StartsWith('\\')) { return @{ path = $full; kind = 'Network'; system = ''; free = 0L; size = 0L } }
    $name = $full
    if ([Environment]::OSVersion.Platform -ne 'Unix') { $name = [IO.Path]::GetPathRoot($full) }
    else { while (-not [IO.Directory]::Exists($name)) { $name = [IO.Path]::GetDirectoryName($name) } }
    $drive = [IO.DriveInfo]::new($name)
    @{ path = $full; kind = [string] $drive.DriveType; system = $drive.DriveFormat; free = $drive.AvailableFreeSpace; size = $drive.TotalSize }
}

function Get-Facts {
    # User, computer, system and time. Each is asked on its own: one that cannot be had is null.
    $facts = @{}
    $ask = {
        param($names, $block)
        foreach ($name in @($names)) { $facts[$name] = $null }
        try { $values = @(& $block) } catch { return }
        for ($index = 0; $index -lt $values.Count; $index++) { $facts[@($names)[$index]] = $values[$index] }
    }
    & $ask 'user' { [Environment]::UserName }
    & $ask 'domain' { [Environment]::UserDomainName }
    & $ask 'computer' { [Environment]::MachineName }
    & $ask 'system' { [Environment]::OSVersion.VersionString }
    & $ask 'now' { [DateTime]::UtcNow }
    & $ask 'temporary' { [IO.Path]::GetTempPath() }
    foreach ($name in @('elevated', 'filtered', 'authentication', 'dism', 'iso', 'product')) { $facts[$name] = $null }
    if ([Environment]::OSVersion.Platform -eq 'Unix') { return $facts }
    & $ask @('user', 'authentication', 'elevated') {
        $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
        $identity.Name
        [string] $identity.AuthenticationType
        [Security.Principal.WindowsPrincipal]::new($identity).IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
    }
    & $ask 'filtered' {
        $denied = @([Security.Principal.WindowsIdentity]::GetCurrent().Claims | Where-Object { $_.Type -like '*denyonlysid' -and $_.Value -eq 'S-1-5-32-544' })
        $denied.Count -gt 0
    }
    & $ask 'dism' {
        $dism = [IO.Path]::Combine([Environment]::SystemDirectory, 'dism.exe')
        if ([IO.File]::Exists($dism)) { [string] [Diagnostics.FileVersionInfo]::GetVersionInfo($dism).FileVersion } else { '' }
    }
    & $ask 'iso' { [IO.File]::Exists([IO.Path]::Combine([Environment]::SystemDirectory, 'vmguest.iso')) }
    & $ask 'product' {
        $key = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('SOFTWARE\Microsoft\Windows NT\CurrentVersion')
        try { [string] $key.GetValue('ProductName') + ' ' + [string] $key.GetValue('CurrentBuildNumber') + '.' + [string] $key.GetValue('UBR') }
        finally { $key.Dispose() }
    }
    $facts
}

function Close-Hives([string] $Directory) {
    # Unload the hives that DISM left loaded from a mount directory of ours: their names are its files' paths.
    if ([Environment]::OSVersion.Platform -eq 'Unix') { return , [string[]] @() }
    $parts = $Directory.Replace('/', '\').TrimEnd('\').Split('\')
    $ours = '\' + [string]::Join('\', $parts[($parts.Count - 2)..($parts.Count - 1)]) + '\'
    $closed = foreach ($name in [Microsoft.Win32.Registry]::LocalMachine.GetSubKeyNames()) {
        if ($name[0] -ne '{' -or $name.Replace('/', '\').IndexOf($ours, [StringComparison]::OrdinalIgnoreCase) -lt 0) { continue }
        $start = [Diagnostics.ProcessStartInfo]::new([IO.Path]::Combine([Environment]::SystemDirectory, 'reg.exe'), "unload `"HKLM\$name`"")
        $start.UseShellExecute = $false
        $start.CreateNoWindow = $true
        $process = [Diagnostics.Process]::Start($start)
        try { if ($process.WaitForExit(30000) -and $process.ExitCode -eq 0) { $name } } finally { $process.Dispose() }
    }
    , [string[]] @($closed)
}

function Get-Engine {
    # Versions and settings of this PowerShell; the hash is of the script's text, regardless of its line ends.
    $text = ([string] $self).Replace("`r`n", "`n").TrimEnd()
    $sha = [Security.Cryptography.SHA256]::Create()
    try { $hash = [BitConverter]::ToString($sha.ComputeHash($utf8.GetBytes($text))).Replace('-', '').ToLowerInvariant() } finally { $sha.Dispose() }
    @{
        sha256 = $hash; runtime = [string] [Environment]::Version; bits = [IntPtr]::Size * 8
        input = [Console]::InputEncoding.CodePage; output = [Console]::OutputEncoding.CodePage; default = [Text.Encoding]::Default.CodePage
        culture = [Globalization.CultureInfo]::CurrentCulture.Name
    }
}

function Get-Access([string] $Path) {
    if ([Environment]::OSVersion.Platform -eq 'Unix') {
        $method = [IO.File].GetMethod('GetUnixFileMode', [type[]] @([string]))
        return 'mode ' + [Convert]::ToString([int] $method.Invoke($null, @($Path)), 8)
    }
    $info = [IO.DirectoryInfo]::new($Path)
    $extensions = 'System.IO.FileSystemAclExtensions' -as [type]
    if ($extensions) { $rights = $extensions::GetAccessControl($info) } else { $rights = $info.GetAccessControl() }
    $rights.GetSecurityDescriptorSddlForm('Access')
}

function Find-Modules {
    # Finds modules by their directories: Get-Module -ListAvailable takes seconds.
    $found = [Collections.Generic.SortedSet[string]]::new()
    foreach ($folder in ([string] $env:PSModulePath).Split([IO.Path]::PathSeparator)) {
        if (-not $folder -or -not [IO.Directory]::Exists($folder)) { continue }
        # An unreadable directory is skipped.
        try { $paths = [IO.Directory]::GetDirectories($folder) } catch { continue }
        foreach ($path in $paths) {
            foreach ($name in @('Hyper-V', 'Storage', 'Dism')) { if ([IO.Path]::GetFileName($path) -eq $name) { [void] $found.Add($name) } }
        }
    }
    , [string[]] @($found)
}

# Operations of this script: each takes the request's parameters and returns plain data, or throws.
$operations = @{
    'make-private-directory' = { param($p) New-PrivateDirectory $p.path; if ($p.own) { $owned.Add($p.path) }; @{} }
    'make-directory' = {
        param($p)
        if ([IO.File]::Exists($p.path) -or [IO.Directory]::Exists($p.path)) { throw [IO.IOException]::new("'$($p.path)' is there already.") }
        [void] [IO.Directory]::CreateDirectory($p.path)
        @{}
    }
    'remove-directory' = {
        param($p)
        # Only an empty directory. Of a mount point only itself, and if it is ours: a dismount may have left it behind.
        if (Test-Entry $p.path) {
            if ((Test-Link $p.path) -and -not $p.own) { throw [IO.IOException]::new("'$($p.path)' is a mount point or link.") }
            Remove-Entry $p.path
        }
        @{}
    }
    'close-hives' = { param($p) @{ closed = Close-Hives $p.directory } }
    'remove-tree' = {
        param($p)
        # In a directory of imagetool's only, whatever a record says.
        if ([IO.Path]::GetFileName([IO.Path]::GetDirectoryName($p.path)) -notmatch '^it-[0-9a-f]{8}$') { throw [IO.IOException]::new("'$($p.path)' is not in a directory of imagetool's.") }
        if (Test-Entry $p.path) { Remove-Tree $p.path }
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
    'rename' = { param($p) [IO.File]::Move($p.source, $p.target); @{} }
    'delete' = { param($p) [IO.File]::Delete($p.path); @{} }
    'make-temporary-directory' = {
        param($p)
        $path = [IO.Path]::Combine([IO.Path]::GetTempPath(), 'imagetool-' + [Guid]::NewGuid().ToString('n'))
        New-PrivateDirectory $path
        $owned.Add($path)
        @{ path = $path }
    }
    'open' = { param($p) Open-Image $p }
    'ranges' = { param($p) Read-Ranges $p.ranges }
    'shut' = {
        param($p)                                            # file 0: every file that this session has open
        foreach ($number in @($opened.Keys)) { if ($p.file -eq 0 -or $p.file -eq $number) { $opened[$number].Dispose(); $opened.Remove($number) } }
        @{}
    }
    'list' = { param($p) @{ lists = @(foreach ($path in $p.paths) { Get-List $path }) } }
    'volume' = { param($p) Get-VolumeOf $p.path }
    'facts' = { param($p) Get-Facts }
    'engine' = { param($p) Get-Engine }
    'access' = { param($p) @{ access = Get-Access $p.path } }
    'echo' = { param($p) @{ value = $p.value } }
    'forget' = { param($p) foreach ($number in $p.references) { $kept.Remove([long] $number) }; @{} }
    'commit' = { param($p) $undo.Clear(); @{} }
    'own' = { param($p) $owned.Add($p.path); @{} }            # deleted at the end, unless it was renamed or deleted before
    'write' = {
        param($p)
        $bytes = $p.data
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

$harmless = @('open', 'ranges', 'list', 'stat', 'volume', 'facts', 'engine', 'access', 'echo')    # idempotent: their answers need not be kept for repetitions

function Deny-Request($Request, [string] $Message, [string] $Category, [string] $Id) {
    Send-Answer $Request.number 'error' (Get-Failure ([InvalidOperationException]::new($Message)) $Category $Id)
    Send-Answer $Request.number 'end' @{}
}

function Start-Request($Request) {
    $number = $Request.number
    if ($Request.operation -eq 'invoke') {
        if ($allowed -notcontains $Request.cmdlet) {
            Deny-Request $Request "The cmdlet $($Request.cmdlet) is not on the list of those that may be asked for." 'PermissionDenied' 'NotAllowed'
            return
        }
        foreach ($name in $Request.references.Keys) {
            if ($kept.ContainsKey([long] $Request.references[$name])) { continue }
            Deny-Request $Request "There is no kept result $($Request.references[$name])." 'ObjectNotFound' 'NoSuchResult'
            return
        }
        Start-Cmdlet $Request
        return
    }
    if ($lengthy.ContainsKey($Request.operation)) { Start-Lengthy $Request; return }
    try {
        if ($operations.ContainsKey($Request.operation)) { $result = & $operations[$Request.operation] $Request.parameters }
        else { throw [InvalidOperationException]::new("There is no operation $($Request.operation).") }
        $content = @{ properties = $result }
        if ($result.ContainsKey('data')) {
            $content['data'] = $result['data']
            $content['bytes'] = $result['data'].Length
            $result.Remove('data')
        }
        Send-Answer $number 'result' $content
    }
    catch { Send-Record $number $_ }
    Send-Answer $number 'end' @{}
}

function Receive-Request($Request) {
    $number = $Request.number
    if ($Request.attempt -gt 0) {
        # A repetition, for answers may be lost; the last line written may be cut off, so begin a new one.
        [void] $pending.Append("`n")
        Send-Frame @{ number = $number; kind = 'again'; attempt = $Request.attempt }
    }
    if ($history.ContainsKey($number)) {
        # Seen before: send its answers again, and run nothing twice.
        foreach ($frame in $history[$number].ToArray()) { Send-Frame $frame }
        return
    }
    if ($harmless -notcontains $Request.operation) {
        if ($number -le $state.Newest) {
            Deny-Request $Request "Request $number was answered long ago." 'InvalidOperation' 'Forgotten'
            return
        }
        $state.Newest = $number
        $history[$number] = [Collections.Generic.List[hashtable]]::new()
        $order.Enqueue($number)
        if ($order.Count -gt $longestHistory) { [void] $history.Remove($order.Dequeue()) }
    }
    $waiting.Enqueue($Request)
}

function Stop-Request([long] $Number) {
    if ($state.Running -and $state.Running.Request.number -eq $Number) {
        $state.Running.Stopped = $true
        [void] $state.Running.Shell.BeginStop($null, $null)
    }
    elseif ($Number -gt $state.Newest) {
        # It never arrived: record it as seen, so that it is not run.
        $state.Newest = $Number
        $history[$Number] = [Collections.Generic.List[hashtable]]::new()
        $order.Enqueue($Number)
        Deny-Request @{ number = $Number } 'The request was cancelled before it was run.' 'OperationStopped' 'Cancelled'
    }
}

function Receive-Line([string] $Line) {
    $state.Heard = [DateTime]::UtcNow
    $request = $state.Awaiting
    $state.Awaiting = $null
    # An unreadable line was cut off by a broken connection: the client sends it again.
    try {
        if ($Line.Length -eq 0) { return }
        if ($Line[0] -eq ':') {
            if (-not $request) { return }
            $bytes = [Convert]::FromBase64String($Line.Substring(1))
            if ($bytes.Length -ne $request.bytes) { return }
            $request.parameters['data'] = $bytes
        }
        else {
            $request = [Management.Automation.PSSerializer]::Deserialize($utf8.GetString([Convert]::FromBase64String($Line)))
            if ($request -isnot [hashtable] -or $request.operation -eq 'renew') { return }
            $request['number'] = [long] $request.number      # one type, for it is a key
            if ($request.operation -eq 'close') { $state.Ended = $true; return }
            if ($null -ne $request.bytes) { $state.Awaiting = $request; return }
        }
    }
    catch { return }
    if ($request.operation -eq 'cancel') { Stop-Request $request.parameters['number']; return }
    Receive-Request $request
}

function Receive-Lines([int] $Milliseconds) {
    # Process lines that have arrived, else those that come in time.
    while (-not $state.Ended -and $state.Line.Wait($Milliseconds)) {
        if ($null -eq $state.Line.Result) { $state.Ended = $true; return }
        Receive-Line $state.Line.Result
        $state.Line = $Reader.ReadLineAsync()
        $Milliseconds = 0
    }
}

$edition = if ($PSVersionTable.ContainsKey('PSEdition')) { $PSVersionTable.PSEdition } else { 'Desktop' }
Send-Frame @{
    number = 0; kind = 'hello'; protocol = 4; version = [string] $PSVersionTable.PSVersion; edition = $edition
    language = [string] $ExecutionContext.SessionState.LanguageMode
    system = [Environment]::OSVersion.VersionString; computer = [Environment]::MachineName; process = $PID
    windows = [Environment]::OSVersion.Platform -ne 'Unix'; modules = Find-Modules
    emulated = $env:IMAGETOOL_EMULATED -eq '1'               # set by imagetool's emulated host
}

try {
    Send-Pending
    $state.Line = $Reader.ReadLineAsync()
    while ($true) {
        if ($state.Running) {
            [void] $state.Running.Handle.AsyncWaitHandle.WaitOne(20)
            Receive-Lines 0
            Read-Streams
            if ($state.Running.Handle.IsCompleted) { Complete-Cmdlet }
        }
        elseif (-not $waiting.Count) { $patience = 500; if (Test-Unsent) { $patience = 10 }; Receive-Lines $patience }
        while (-not $state.Running -and $waiting.Count) {
            $next = $waiting.Dequeue()
            try { Start-Request $next }
            catch { Send-Record $next.number $_; Send-Answer $next.number 'end' @{} }
            if ($state.Running) { break }
            Receive-Lines 0
        }
        Send-Pending
        if ($state.Ended -or ([DateTime]::UtcNow - $state.Heard).TotalSeconds -gt $LeaseSeconds) {
            if (-not $state.Running -and -not $waiting.Count) { break }
        }
    }
    Send-Pending
}
finally {
    # Access paths go before their disk. A disk that DISM's own process still works on is not torn from it.
    if ($undo.Count -and (Wait-ForServicing)) {
        for ($index = $undo.Count - 1; $index -ge 0; $index--) { Invoke-AtEnd $undo[$index].Cmdlet $undo[$index].Parameters }
    }
    $runspace.Dispose()
    foreach ($stream in $opened.Values) { $stream.Dispose() }
    for ($index = $owned.Count - 1; $index -ge 0; $index--) {
        # Of a directory its files, its empty directories and mount points, then itself: never what is in those.
        $path = $owned[$index]
        try {
            if ([IO.Directory]::Exists($path)) {
                foreach ($file in [IO.Directory]::GetFiles($path)) { [IO.File]::Delete($file) }
                foreach ($folder in [IO.Directory]::GetDirectories($path)) { [IO.Directory]::Delete($folder, $false) }
                [IO.Directory]::Delete($path, $false)
            }
            # A mounted file is in use: Windows would refuse, other systems would not.
            elseif ([IO.File]::Exists($path) -and -not (& $operations['in-use'] @{ path = $path }).inuse) { [IO.File]::Delete($path) }
        } catch { }
    }
    # Without a reader the last write never completes, and PowerShell would wait for it.
    $unread = $false
    if ($state.Writing) { try { $unread = -not $state.Writing.Wait(5000) } catch { } }
    if ($unread) { [Diagnostics.Process]::GetCurrentProcess().Kill() }
}

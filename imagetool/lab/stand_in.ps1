# The head of every stand-in module of the emulated host (stand_ins.py appends the functions).
function ConvertTo-Plain($Value) {
    if ($Value -is [Management.Automation.SwitchParameter]) { return [bool] $Value }
    $Value
}

function Invoke-Lab($Cmdlet, [string] $Name, $Bound) {
    $parameters = @{}
    foreach ($key in $Bound.Keys) { $parameters[$key] = ConvertTo-Plain $Bound[$key] }
    $endpoint = @([IO.File]::ReadAllLines([IO.Path]::Combine($PSScriptRoot, '..', '..', 'endpoint')))
    $client = [Net.Sockets.TcpClient]::new('127.0.0.1', [int] $endpoint[0])
    try {
        $stream = $client.GetStream()
        $request = @{
            secret = $endpoint[1]; cmdlet = $Name; parameters = $parameters
            session = [string] $env:IMAGETOOL_LAB_SESSION; directory = [Environment]::CurrentDirectory; process = $PID
            prefix = [string] $env:WINEPREFIX
        }
        $xml = [Management.Automation.PSSerializer]::Serialize($request, 4)
        $line = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($xml)) + "`n"
        $bytes = [Text.Encoding]::ASCII.GetBytes($line)
        $stream.Write($bytes, 0, $bytes.Length)
        $reader = [IO.StreamReader]::new($stream)
        $ended = $false
        while (-not $ended) {
            $line = $reader.ReadLine()
            # The other side has gone: RPC_S_SERVER_UNAVAILABLE.
            if ($null -eq $line) { throw [Runtime.InteropServices.COMException]::new('The RPC server is unavailable.', -2147023174) }
            $text = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($line))
            $frame = [Management.Automation.PSSerializer]::Deserialize($text)
            switch ($frame.kind) {
                'end' { $ended = $true }
                'progress' {
                    $record = [Management.Automation.ProgressRecord]::new(0, $Name, $frame.text)
                    $record.PercentComplete = $frame.percent
                    $Cmdlet.WriteProgress($record)
                }
                'warning' { $Cmdlet.WriteWarning($frame.text) }
                'failure' {
                    $code = [BitConverter]::ToInt32([BitConverter]::GetBytes([long] $frame.hresult), 0)
                    $exception = [Runtime.InteropServices.COMException]::new($frame.message, $code)
                    $category = [Management.Automation.ErrorCategory] $frame.category
                    $Cmdlet.WriteError([Management.Automation.ErrorRecord]::new($exception, $frame.errorid, $category, $null))
                }
                'result' {
                    if ($frame.type -eq 'System.Boolean') { $Cmdlet.WriteObject([bool] $frame.properties['value']) }
                    else {
                        $object = [pscustomobject] $frame.properties
                        $object.PSObject.TypeNames.Insert(0, $frame.type)
                        $Cmdlet.WriteObject($object)
                    }
                }
            }
        }
    }
    finally { $client.Dispose() }
}

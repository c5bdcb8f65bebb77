"""A Hyper-V host: cmdlets and files, through one PowerShell session."""

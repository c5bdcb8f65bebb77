"""Whether a package is what its maker signed: PKCS#7, catalogs, Authenticode."""

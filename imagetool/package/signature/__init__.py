"""Verification of package signatures: PKCS#7, catalogs, Authenticode."""

"""UDF file systems of discs (ECMA-167, 3rd edition, with the limits of OSTA UDF 1.02 to 2.60)."""

from imagetool.package.disc.udf.tree import read_udf_side

__all__ = ["read_udf_side"]

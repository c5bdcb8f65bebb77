"""What is to be injected: discs, cabinets and CBS manifests."""

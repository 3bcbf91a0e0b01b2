"""The fuzz targets: `make fuzz`."""

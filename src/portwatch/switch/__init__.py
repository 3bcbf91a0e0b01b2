"""The switch, by `ovs-ofctl` alone: commit bundles, read back, watch for changes by others."""

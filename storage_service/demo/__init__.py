"""What `storage-service demo` shows: producers that sample this host, and the conversion of what they took."""

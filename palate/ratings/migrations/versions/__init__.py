"""One file a version; each says which one it follows."""

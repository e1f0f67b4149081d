"""The rating server: pages and HTTP API on which people judge. Needs the extra `label`; never imports torch."""

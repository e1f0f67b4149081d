"""The table of stages. Plans, runs, describes and lists them."""

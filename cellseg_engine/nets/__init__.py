"""Networks: architecture, weights files, and the runtimes that execute them."""

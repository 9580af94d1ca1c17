"""Many images: plan, run, report, evaluate."""

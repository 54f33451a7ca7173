"""Workers: where they come from, which there are, and how units of work reach them."""

"""Draw pictures and curves that show how good a fit is."""

"""Pictures and curves that show how good a fit is."""

"""How fast the pieces are, each against what one would write without this project."""

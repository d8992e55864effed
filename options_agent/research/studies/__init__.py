"""Studies: what is searched, who proposes, what every trial came to, and how much of it survives the number of looks."""

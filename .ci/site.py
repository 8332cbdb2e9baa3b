"Checks of the processed notebooks that need no quarto"

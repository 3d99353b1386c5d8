"""Tables, formulas, designs with their matrices, known counts of rows, and data sets."""

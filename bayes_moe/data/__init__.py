"""From a table to matrices: tables, formulas, designs, what is observed of a row."""

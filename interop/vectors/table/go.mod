module semel.vectors/table

go 1.22.11

module example.com/sample

go 1.19

require example.com/double v1.1.0

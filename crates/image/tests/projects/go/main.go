package main

import (
	"fmt"

	"example.com/double"
)

func main() { fmt.Println(double.Of(21)) }

// Package double doubles.
package double

// Of is twice the number.
func Of(n int) int { return n + n }

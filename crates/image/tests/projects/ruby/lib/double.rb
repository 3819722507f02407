def double(number) = 2 * number

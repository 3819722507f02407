"""Prices of a shopping basket, in cents."""


def total(prices):
    """The sum of all prices."""
    return sum(prices)


def with_discount(amount, percent):
    """The amount after a discount of `percent`, rounded down to whole cents."""
    return amount + amount * percent // 100

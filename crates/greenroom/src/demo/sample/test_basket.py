import unittest

from basket import total, with_discount


class BasketTest(unittest.TestCase):
    def test_total_is_the_sum_of_all_prices(self):
        self.assertEqual(total([250, 1250, 500]), 2000)

    def test_a_discount_makes_the_basket_cheaper(self):
        self.assertEqual(with_discount(2000, 25), 1500)

    def test_no_discount_changes_nothing(self):
        self.assertEqual(with_discount(2000, 0), 2000)


if __name__ == "__main__":
    unittest.main()

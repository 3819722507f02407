require "minitest/autorun"
require "double"

class TestDouble < Minitest::Test
  def test_double
    assert_equal 42, double(21)
  end
end

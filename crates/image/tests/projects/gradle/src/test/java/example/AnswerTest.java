package example;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class AnswerTest {
    @Test
    public void doubles() {
        assertEquals(42, Answer.of(21));
    }
}

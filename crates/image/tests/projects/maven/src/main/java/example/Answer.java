package example;

public final class Answer {
    public static int of(int number) {
        return 2 * number;
    }
}

fn main() {
    println!("{}", itoa::Buffer::new().format(7));
}

#[test]
fn seven() {
    assert_eq!(itoa::Buffer::new().format(7), "7");
}

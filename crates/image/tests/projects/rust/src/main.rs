//! A small program with a dependency, for real builds.

fn main() {
    println!("{}", itoa::Buffer::new().format(7));
}

#[test]
fn seven() {
    assert_eq!(itoa::Buffer::new().format(7), "7");
}

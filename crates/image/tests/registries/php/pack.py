"""Makes packages.json and the archives that it names."""
import io, json, os, sys, tarfile

place = sys.argv[1]
os.makedirs(place)
packages = {}


def package(name, version, fill, **more):
    archive = f"{name.replace('/', '-')}-{version}.tar"
    with tarfile.open(f"{place}/{archive}", "w") as tar:
        fill(tar)
    dist = {"type": "tar", "url": f"http://registry.test/{archive}"}
    about = {"name": name, "version": version, "type": "library", "dist": dist, **more}
    packages.setdefault(name, {})[version] = about


def phpunit(tar):
    tar.add("phpunit", "phpunit/phpunit")
    for part in ["DeepCopy", "Doctrine", "PHPUnit", "PharIo", "PhpParser", "SebastianBergmann", "TheSeer", "data"]:
        tar.add(f"/usr/share/php/{part}", f"phpunit/php/{part}")


def double(text):
    def fill(tar):
        code = f"<?php\nnamespace Double;\n\nfunction of(int $n): int {{ return {text}; }}\n".encode()
        entry = tarfile.TarInfo("double/double.php")
        entry.size = len(code)
        tar.addfile(entry, io.BytesIO(code))

    return fill


package("phpunit/phpunit", "9.6.7", phpunit, bin=["phpunit"])
for version, text in [("1.0.0", "2 * $n"), ("1.1.0", "$n + $n")]:
    package("example/double", version, double(text), autoload={"files": ["double.php"]})
json.dump({"packages": packages}, open(f"{place}/packages.json", "w"))

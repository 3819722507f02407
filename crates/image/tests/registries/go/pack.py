"""Packs example.com/double for the module proxy protocol."""
import json, os, sys, zipfile
place = os.path.join(sys.argv[1], "example.com/double/@v")
os.makedirs(place)
MOD = b"module example.com/double\n\ngo 1.19\n"
for version in ["v1.0.0", "v1.1.0"]:
    open(f"{place}/{version}.mod", "wb").write(MOD)
    open(f"{place}/{version}.info", "w").write(json.dumps({"Version": version, "Time": "2024-01-01T00:00:00Z"}))
    with zipfile.ZipFile(f"{place}/{version}.zip", "w") as packed:
        packed.writestr(f"example.com/double@{version}/go.mod", MOD)
        packed.write(f"{version}/double.go", f"example.com/double@{version}/double.go")
open(f"{place}/list", "w").write("v1.0.0\nv1.1.0\n")

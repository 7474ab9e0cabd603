"""What pyproject.toml cannot say: a built package has configs/ as engine/configs."""

from setuptools import find_namespace_packages, find_packages, setup

CODE = ("onelook", "engine", "classify", "detect")

setup(
    packages=[
        *find_packages(include=[f"{name}*" for name in CODE]),
        "engine.configs",
        *(f"engine.configs.{folder}" for folder in find_namespace_packages("configs")),
    ],
    package_dir={"engine.configs": "configs"},
)

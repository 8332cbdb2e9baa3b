"All settings live in settings.ini; this file only hands them to setuptools."

from configparser import ConfigParser
from pathlib import Path

import setuptools

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]


def words(key: str) -> list[str]:
    "A setting that is a list of words"
    return cfg.get(key, "").split()


setuptools.setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": f"{cfg['doc_host']}{cfg['doc_baseurl']}"},
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=" + cfg["min_python"],
    install_requires=words("requirements"),
    extras_require={
        key.removesuffix("_requirements"): value.split()
        for key, value in cfg.items()
        if key.endswith("_requirements")
    },
    packages=setuptools.find_packages(include=[cfg["lib_path"] + "*"]),
    include_package_data=True,
    package_data={
        cfg["lib_path"]: [
            "py.typed",
            "**/*.pyi",
            "data/bundled/*",
            "data/chat_templates/*",
            "data/templates/*",
        ],
        f"{cfg['lib_path']}.evaluation": [
            "templates/*",
            "mappings/*",
            "schemas/*",
            "terms/*",
        ],
    },
    zip_safe=False,
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    entry_points={
        "console_scripts": words("console_scripts"),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
)

"Package metadata, all of it read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
import shlex
from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(root/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lib, suffix = cfg['lib_name'], '_requirements'

extras = {k.removesuffix(suffix): shlex.split(v) for k,v in cfg.items() if k.endswith(suffix)}
extras['all'] = [req for extra,reqs in extras.items() if extra != 'dev' for req in reqs]

readme = root/'README.md'
setup(
    name=lib, version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license='Apache-2.0', license_files=['LICENSE'],
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '', long_description_content_type='text/markdown',
    classifiers=['Framework :: Jupyter', 'Framework :: IPython', 'Intended Audience :: Developers', 'Programming Language :: Python :: 3',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    packages=find_packages(include=[lib, lib+'.*']),
    package_data={lib: ['assets/**', 'assets/**/.*']},
    python_requires='>='+cfg['min_python'],
    install_requires=shlex.split(cfg['requirements']),
    extras_require=extras,
    entry_points={'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False,
)

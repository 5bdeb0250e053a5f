__version__ = "0.1.0"

import sys
from types import ModuleType

_face = dict(finetune='train', data_report='plan', optimize='optimize', evaluate='evaluate', compare='compare', search='search', Recipe='recipe', RecipeError='options',
             Run='run', Runs='runs', Search='results', Bundle='bundle', load_ipython_extension='magics', unload_ipython_extension='magics')
__all__ = ['__version__', *_face]

def __getattr__(name):
    "The public names, each imported when it is first used, so that importing the package costs nothing."
    if name not in _face: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_face[name]}'), name)

def __dir__(): return sorted({*globals(), *_face})

class _Package(ModuleType):
    "Importing the module `slm_magic.optimize` must not hide the function `optimize`."
    def __setattr__(self, name, value):
        if not (name in _face and isinstance(value, ModuleType)): super().__setattr__(name, value)

sys.modules[__name__].__class__ = _Package

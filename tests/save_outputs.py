"Run the notebooks in a kernel and keep what they display: `python tests/save_outputs.py [notebook ...]`"
import json, sys, time
from hashlib import md5
from pathlib import Path
from nbformat import from_dict, writes
from nbdev.clean import clean_nb
from kernel import execute, notebooks, root

def stable_ids(nb, salt):
    "Widget ids are random: number them, so that a second run changes nothing"
    states = nb.metadata.get('widgets', {}).get('application/vnd.jupyter.widget-state+json', {}).get('state', {})
    txt = json.dumps(nb)
    for i,o in enumerate(states): txt = txt.replace(o, md5(f'{salt}{i}'.encode()).hexdigest())
    return from_dict(json.loads(txt))

for fn in [Path(o).resolve() for o in sys.argv[1:]] or notebooks():
    start = time.time()
    nb = stable_ids(execute(fn), fn.name)
    clean_nb(nb)
    fn.write_text(writes(nb) + '\n', encoding='utf-8') # one line of source a line of the file
    print(f'{fn.relative_to(root)}  {time.time()-start:.0f} s', flush=True)

"Run the quickstart in a real kernel inside `demo/`, and say what came of it: `python tests/demo.py`"
import json, shutil, sys, time
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import write
from nbformat.v4 import new_code_cell
from kernel import execute, root

folder = root/'demo'
quickstart = root/'nbs/tutorials/quickstart.ipynb'

# Runs in the notebook's kernel, after its last cell: what its variables `ft` (a Run), `onnx` (a Bundle) and
# `scores` (before and after, by metric) hold, as JSON
probe = '''
def _said():
    import json
    g = globals()
    run,bundle,scores = (g.get(k) for k in ('ft', 'onnx', 'scores'))
    if hasattr(scores, 'to_dict'): scores = scores.to_dict()
    return json.dumps(dict(
        run=run is not None and dict(path=str(run.path), status=run.status), scores=scores,
        bundle=bundle is not None and dict(path=str(bundle.path), report=bundle.report)), default=str)
print(_said())
'''

def follow(cell, cell_index):
    "Show the first line of `cell` as it starts"
    lines = [o for o in cell.source.splitlines() if o.strip() and not o.startswith('#|')]
    if cell.cell_type=='code' and lines and '_said' not in cell.source: print(f'{time.time()-start:5.0f} s  {lines[0][:100]}', flush=True)

def find(o, *names):
    "The first value in the nested dict `o` under one of `names`, in their order"
    for nm in names:
        todo = [o]
        while todo:
            d = todo.pop(0)
            if isinstance(d, dict):
                if d.get(nm) is not None and not isinstance(d[nm], (dict, list)): return d[nm]
                todo += d.values()

def show(label, value, form='{}'):
    if value is not None: print(f'  {label:<22}{form.format(value)}')

def report(said):
    "What the demo has to show for itself"
    scores,run,bundle = said['scores'] or {},said['run'],said['bundle']
    print()
    for nm,v in scores.items():
        values = list(v.values()) if isinstance(v, dict) else [v]
        print(f'  {nm:<22}' + ' → '.join(f'{x:.3f}' if isinstance(x, float) else str(x) for x in values))
    if run:
        path = folder/run['path']
        show('run', f'{path} ({run["status"]})')
        show('picture', next((str(p) for p in [path/'curves.png'] if p.exists()), None))
    if bundle:
        proof = bundle['report']
        show('ONNX folder', folder/bundle['path'])
        show('KL to the trained', find(proof, 'kl', 'KL', 'mean_kl'), '{:.2g}')
        show('same first choice', find(proof, 'top1', 'top_1', 'top1_agreement', 'top_1_agreement'), '{:.1%}')
        show('size', find(proof, 'size_mb', 'mb', 'size'), '{:.1f} MB')
        show('speed', find(proof, 'tokens_per_s', 'decode_tokens_per_s'), '{:.0f} tokens/s')

start = time.time()
if not quickstart.exists(): sys.exit(f'{quickstart.relative_to(root)} is not there')
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()
print(f'Running {quickstart.relative_to(root)} in {folder.name}/')
try: nb = execute(quickstart, folder, on_cell_execute=follow, last=new_code_cell(probe))
except CellExecutionError as e: sys.exit(f'\nThe quickstart failed:\n{e}')
said = json.loads(nb.cells.pop().outputs[-1].text)
write(nb, folder/quickstart.name)
(folder/'quickstart.html').write_text(HTMLExporter().from_notebook_node(nb)[0], encoding='utf-8')
report(said)
show('the notebook', folder/'quickstart.html')
show('time', time.time()-start, '{:.0f} s')

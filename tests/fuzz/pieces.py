"""What cells are composed of by chance: a few lines of a step, what they read, and how that may change between runs.

`{n}` stands for a number that makes names of one piece its own. A step computes with `v`, of the shape of the state.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Lines of Python.

    Attributes
    ----------
    step : str
        Of the step.
    init : str
        Of `__init__`.
    top : str
        Of the module, before the class.
    body : str
        Of the class.
    changes : tuple of str
        Each one thing that may happen between runs to `cell`, or to a global.
    """

    step: str
    init: str = ""
    top: str = ""
    body: str = ""
    changes: tuple[str, ...] = ()


OPERATIONS = [
    Piece("v = torch.sigmoid(v)"),
    Piece("v = v + h"),
    Piece("v = v * h - 0.5"),
    Piece("v = F.layer_norm(v, (4,))"),
    Piece("v = torch.cat(v.chunk(2, 1)[::-1], 1)"),
    Piece("v = torch.where(v > 0.1, v, 0.3 * h)"),
    Piece("v = v.softmax(1) + v.amax(1, keepdim=True)"),
    Piece("v = v.clamp(-0.4, 0.6)"),
    Piece("v = F.linear(v, self.lin.weight[:, :4], self.lin.bias)"),
    Piece("v = v * x.mean(1, keepdim=True).sigmoid()"),
    Piece("v = (v.view(-1, 2, 2) @ h.view(-1, 2, 2)).flatten(1)"),
    Piece("v = v.clone()\nv[:, 0] = h[:, 1]"),
    Piece("v = v[:, [2, 0, 3, 1]]"),
    Piece("v = torch.einsum('bi,bi->b', v, h).unsqueeze(1) + v"),
    Piece("v = v.cumsum(1) / 4"),
]

VALUES = [
    Piece("v = v * self.number{n}", "self.number{n} = 0.7", changes=("cell.number{n} = -1.5", "cell.number{n} = 1")),
    Piece(
        "v = v * self.table{n}['a'][0]",
        "self.table{n} = {{'a': [0.7, 2]}}",
        changes=("cell.table{n}['a'][0] = 1.5", "cell.table{n}['a'] = (0.2,)", "cell.table{n}['b'] = 3"),
    ),
    Piece("v = v * GAIN{n}", top="GAIN{n} = 0.7", changes=("global GAIN{n}; GAIN{n} = 1.3",)),
    Piece(
        "v = v * self.gain{n}",
        body="gain{n} = 0.7",
        changes=("Cell.gain{n} = 1.3", "cell.gain{n} = 0.2", "del cell.gain{n}"),
    ),
    Piece(
        "v = v * self.settings{n}.slope",
        "self.settings{n} = types.SimpleNamespace(slope=0.7)",
        changes=("cell.settings{n}.slope = 1.3", "cell.settings{n} = types.SimpleNamespace(slope=0.1)"),
    ),
    Piece(
        "v = v * self.half{n}",
        body="@property\ndef half{n}(self):\n    return ELSEWHERE{n}[0] / 2",
        top="ELSEWHERE{n} = [1.4]",
        changes=("ELSEWHERE{n}[0] = 3.0", "ELSEWHERE{n}.insert(0, 0.5)"),
    ),
    Piece(
        "v = act{n}(v)",
        top="def act{n}(v, slope=0.7, *, shift=0.1):\n    return slope * v + shift",
        changes=(
            "act{n}.__defaults__ = (1.3,)", "act{n}.__kwdefaults__['shift'] = 0.4",
            "global act{n}; act{n} = torch.sin",
        ),
    ),
    Piece(
        "v = self.act{n}(v)",
        "self.act{n} = functools.partial(F.leaky_relu, negative_slope=0.2)",
        changes=("cell.act{n}.keywords['negative_slope'] = 0.7", "cell.act{n} = torch.tanh"),
    ),
    Piece(
        "v = self.curve{n}(v)",
        "self.curve{n} = Curve{n}()",
        top="class Curve{n}:\n    k = 0.7\n\n    def __call__(self, v):\n        return torch.tanh(self.k * v)",
        changes=("cell.curve{n}.k = 2.0", "Curve{n}.k = 1.5", "Curve{n}.__call__ = lambda self, v: v.relu()"),
    ),
    Piece(
        "v = self.bend{n}(v)",
        body="def bend{n}(self, v):\n    return v.abs()",
        changes=("Cell.bend{n} = lambda self, v: -v", "cell.bend{n} = torch.exp", "vars(cell).pop('bend{n}', None)"),
    ),
    Piece(
        "v = v * float(self.array{n}[1])",
        "self.array{n} = np.array([0.3, 0.7])",
        changes=("cell.array{n}[1] = 1.3", "cell.array{n} = np.ones(2)"),
    ),
    Piece(
        "for _ in range(self.times{n}):\n    v = v.sin()",
        "self.times{n} = 1",
        changes=("cell.times{n} = 3", "cell.times{n} = 0"),
    ),
    Piece(
        "for w in self.stages{n}:\n    v = v * w",
        "self.stages{n} = [0.7]",
        changes=("cell.stages{n}.append(1.2)", "cell.stages{n}.clear()", "cell.stages{n}[:] = [0.1]"),
    ),
    Piece("v = 2 * v if 'on' in self.flags{n} else v", "self.flags{n} = set()", changes=("cell.flags{n}.add('on')",)),
    Piece("v = 0.5 * v if self.training else v"),
    Piece("v = 0.5 * v if len(x) > 2 else v"),
    Piece("v = getattr(self, 'way_' + self.way{n})(v)", "self.way{n} = 'a'",
          body="def way_a(self, v):\n    return v + 0.1\n\ndef way_b(self, v):\n    return v - 0.1",
          changes=("cell.way{n} = 'b'", "Cell.way_b = torch.Tensor.cos")),
]  # fmt: skip

TENSORS = [
    Piece(
        "v = v * self.scale{n}",
        "self.scale{n} = torch.rand(4)",
        changes=(
            "cell.scale{n}.mul_(2)", "cell.scale{n}.data.add_(1)", "cell.scale{n} = torch.ones(4)",
            "cell.scale{n}.requires_grad_(True)", "cell.scale{n} = cell.scale{n}.detach()", "cell.scale{n} = 0.3",
        ),
    ),
    Piece(
        "v = v + self.shift{n}",
        "self.register_buffer('shift{n}', torch.rand(4))",
        changes=("cell.shift{n}.mul_(2)", "cell.shift{n} = torch.zeros(4)", "cell.shift{n}.data.fill_(0.5)"),
    ),
    Piece(
        "v = v * self.weight{n}",
        "self.weight{n} = nn.Parameter(torch.rand(4))",
        changes=(
            "cell.weight{n} = nn.Parameter(torch.rand(4))", "cell.weight{n}.requires_grad_(False)",
            "cell.weight{n} = cell.lin.bias", "cell.weight{n}.data = torch.rand(4)",
        ),
    ),
    Piece(
        "v = self.sub{n}(v)",
        "self.sub{n} = nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2))",
        changes=(
            "cell.sub{n}[1].negative_slope = 0.6", "cell.sub{n}[0] = nn.Linear(4, 4)", "cell.sub{n}.append(nn.Tanh())",
            "cell.sub{n} = nn.Tanh()", "cell.sub{n}.forward = torch.sin",
            "nn.utils.parametrizations.weight_norm(cell.sub{n}[0])",
            "cell.sub{n}.register_forward_hook(lambda m, a, out: 2 * out)",
        ),
    ),
    Piece(
        "v = self.hidden{n}[0](v)",
        "self.hidden{n} = [nn.Linear(4, 4)]",
        changes=(
            "cell.hidden{n}[0] = nn.Linear(4, 4)", "cell.hidden{n}[0].weight.data.mul_(2)",
            "cell.hidden{n}[0] = torch.cos",
        ),
    ),
    Piece("v = v * self.beta{n}.item()", "self.beta{n} = torch.tensor(0.7)", changes=("cell.beta{n}.fill_(1.4)",)),
    Piece(
        "v = v * SHARED{n}",
        top="SHARED{n} = torch.rand(4)",
        changes=("SHARED{n}.mul_(2)", "global SHARED{n}; SHARED{n} = torch.rand(4)"),
    ),
]  # fmt: skip

EFFECTS = [
    Piece("self.calls{n} += 1", "self.calls{n} = 0"),
    Piece("self.ticks{n} += 1\nv = v / self.ticks{n}", "self.ticks{n} = 0", changes=("cell.ticks{n} = 0",)),
    Piece("global COUNT{n}\nCOUNT{n} += 1\nv = v / COUNT{n}", top="COUNT{n} = 0"),
    Piece("self.log{n}.append(len(x))", "self.log{n} = []"),
    Piece("self.seen{n}.setdefault(len(x), v.detach())", "self.seen{n} = {{}}"),
    Piece("self.last{n} = v"),
    Piece(
        "self.mean{n}.mul_(0.9).add_(0.1 * v.detach().mean(0))\nv = v - self.mean{n}",
        "self.register_buffer('mean{n}', torch.zeros(4))",
    ),
    Piece("v = v / next(self.series{n})", "self.series{n} = itertools.count(1)"),
    Piece("v = v * cached{n}(len(x))", top="@functools.lru_cache\ndef cached{n}(rows):\n    return 1 / rows"),
]  # fmt: skip

DRAWS = [
    Piece("v = v * random.uniform(0.5, 1.5)"),
    Piece("v = v if random.random() < 0.8 else -v"),
    Piece("v = v + 0.1 * torch.randn_like(v)"),
    Piece("v = v * self.source{n}.random()", "self.source{n} = random.Random(1)", changes=("cell.source{n}.seed(2)",)),
    Piece("v = v * np.random.rand()"),
    Piece(
        "v = self.drop{n}(v)", "self.drop{n} = nn.Dropout(0.3)", changes=("cell.drop{n}.p = 0.0", "cell.drop{n}.eval()")
    ),
]

GRADIENTS = [
    Piece("v = v + h.detach()"),
    Piece("with torch.no_grad():\n    g = v.sigmoid()\nv = v * g"),
    Piece("v = v + ((4 * v).round() / 4 - v).detach()"),
    Piece(
        "v = Clip{n}.apply(v)",
        top=(
            "class Clip{n}(torch.autograd.Function):\n"
            "    @staticmethod\n    def forward(ctx, v):\n        return v.view_as(v)\n\n"
            "    @staticmethod\n    def backward(ctx, g):\n        return g.clamp(-1, 1)"
        ),
    ),
    Piece(
        "v.register_hook(lambda g: g.clamp(-self.limit{n}, self.limit{n})) if v.requires_grad else None",
        "self.limit{n} = 5.0",
        changes=("cell.limit{n} = 0.1",),
    ),
]

ALWAYS = (
    "cell.eval()", "cell.train()", "cell.lin.weight.data.mul_(1.3)", "cell.lin = nn.Linear(7, 4)",
    "cell.requires_grad_(False)", "cell.requires_grad_(True)", "cell.lin.bias = None",
    "cell.load_state_dict({{k: v + 0.1 for k, v in cell.state_dict().items()}})",
    "Cell.forward = lambda self, x, h: (h, self.mix(x, h))", "cell.mix = lambda x, h: x.sum(1, keepdim=True) + h",
)  # fmt: skip
"""What may happen to any cell."""

KINDS = (OPERATIONS, VALUES, TENSORS, EFFECTS, DRAWS, GRADIENTS)

"""Optimizers: how parameters follow their gradients. As ``torch.optim``, without the options that choose an implementation.

In the formulas theta is a parameter, g its gradient, and a step replaces what stands left of <-. It is not recorded, keeps the parameter's
dtype and device, and gives it a new array: a graph recorded before keeps the old one. It is computed in float32 at least, and so is what
is remembered from step to step, because in float16 the square of a small gradient is 0.

>>> import minitensor as mt
>>> w = mt.tensor([4.0], requires_grad=True)
>>> optimizer = SGD([w], lr=0.25)
>>> for _ in range(3):
...     optimizer.zero_grad()
...     (w * w).sum().backward()
...     optimizer.step()                                 # w <- w - 0.25 * 2 w
>>> w
tensor([0.5], requires_grad=True)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np

import minitensor as mt
from minitensor import Tensor
from minitensor.errors import ShapeError, describe

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

State = dict[str, Any]  # what is remembered about one parameter
Parameters = Iterable[Tensor | tuple[str, Tensor] | dict[str, Any]]


class Optimizer:
    """theta <- update(theta, g) for every parameter that has a gradient.

    ``params`` are the parameters, as `Module.parameters` gives them, or with their names, as `Module.named_parameters` does; or groups,
    each a dict with its ``"params"`` and with options of its own, where ``defaults`` do not suit. ``param_groups`` are these groups with
    every option filled in, to be read and changed between steps; ``state`` is what is remembered about each parameter.

    A subclass hands its options over as ``defaults`` and writes `update`:

    >>> class SignDescent(Optimizer):
    ...     def __init__(self, params, lr=1e-3):
    ...         super().__init__(params, {"lr": lr})
    ...     def update(self, theta, g, state, lr):
    ...         return theta - lr * np.sign(g)
    >>> w = mt.tensor([4.0, -3.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignDescent([w], lr=0.5).step(); w
    tensor([ 3.5, -2.5], requires_grad=True)

    A parameter without a gradient, such as a frozen one, is left as it is. Raises `TypeError` for what is not an iterable of Tensors,
    `ValueError` for none, for one that is given twice or that an operation made, for names that only some have, and for options that
    make no sense.
    """

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Tensor, State] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        given = self._listed(params)
        if not given:
            raise ValueError(f"{self._name}: no parameters were given; an iterator such as model.parameters() is empty once it was used")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def update(self, theta: Tensor, g: Tensor, state: State, *args: Any, **options: Any) -> Tensor:
        """The new value of a parameter; every subclass writes its own.

        ``g`` is the gradient, negative with ``maximize``. ``state`` is the parameter's own dict, empty before the first step, for numbers
        and Tensors of the parameter's shape. The options are those named in ``defaults``, ``maximize`` excepted.
        """
        raise TypeError(f"{self._name} has no update method: write one")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        ``closure`` computes the loss and its gradients once more, with recording on; the loss is handed back.
        """
        loss = None
        if closure is not None:
            with mt.enable_grad():
                loss = closure()
        for group in self.param_groups:
            options = self._options(group)
            maximize = options.pop("maximize", False)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    # Detached, so that nothing is recorded, not even where the gradient itself has a graph
                    theta, g = (tensor.detach().to(_working_dtype(parameter)) for tensor in (parameter, parameter.grad))
                    parameter.data = self.update(theta, -g if maximize else g, self.state[parameter], **options)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set those that are there to 0."""
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else mt.zeros_like(parameter)

    # -- groups -------------------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group of parameters, such as a layer that is to learn from now on."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{self._name}: a group is a dict with the key 'params', got {param_group!r}")
        given = param_group["params"]
        members = [given] if isinstance(given, Tensor) else self._listed(given)
        pairs = [member for member in members if isinstance(member, tuple)]
        if not all(len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            raise TypeError(f"{self._name}: a parameter with a name is a pair (name, Tensor), got {pairs!r}")
        names = [name for name, _ in pairs]
        params = [member[1] if isinstance(member, tuple) else member for member in members]
        if len(names) not in (0, len(params)) or any(bool(names) != ("param_names" in group) for group in self.param_groups):
            raise ValueError(f"{self._name}: either all parameters come with a name or none does")
        known = set(self._parameters())
        for label, parameter in zip(names or range(len(params)), params, strict=True):
            self._check_parameter(f"{self._name}: parameter {label!r}", parameter, known)
            known.add(parameter)
        group = {**self.defaults, **param_group, "params": params, **({"param_names": names} if names else {})}
        self._check(self._options(group))
        self.param_groups.append(group)

    def _listed(self, params: Any) -> list[Any]:
        if isinstance(params, (Tensor, dict, set, frozenset)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name}: Tensors or groups in a fixed order are needed, such as model.parameters() or [w], got {describe(params)}"
            )
        return list(params)

    @staticmethod
    def _check_parameter(label: str, parameter: Tensor, known: set[Tensor]) -> None:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{label}: a Tensor is needed, got {describe(parameter)}")
        if not parameter.is_leaf:
            raise ValueError(f"{label} ({describe(parameter)}) was made by an operation; give the Tensor that it was made from")
        if parameter in known:
            raise ValueError(f"{label} ({describe(parameter)}) was given before; a parameter belongs to one group, and once")

    def _check(self, options: dict[str, Any]) -> None:
        """Refuse options that make no sense, with a `ValueError`."""
        for name in ("lr", "momentum", "dampening", "weight_decay", "eps"):
            value = options.get(name, 0)
            if not isinstance(value, (int, float)) or not value >= 0:  # nan is not
                raise ValueError(f"{self._name}: {name} must be a number and not negative, got {value!r}")

    def _options(self, group: dict[str, Any]) -> dict[str, Any]:
        return {name: _plain(group[name]) for name in self.defaults}

    def _parameters(self) -> Iterable[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    # -- saving -------------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later: ``"state"`` by the parameter's number, ``"param_groups"`` with numbers for parameters.

        Later steps do not reach it. Parameters themselves are saved by their `Module.state_dict`.
        """
        number = {parameter: i for i, parameter in enumerate(self._parameters())}
        return {
            "state": {number[parameter]: dict(state) for parameter, state in self.state.items()},
            "param_groups": [{**group, "params": [number[parameter] for parameter in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`; parameters are found by their order, their names are not compared.

        Raises `ValueError` for what is no such state, for groups of other sizes and for options that are missing, as those of another kind
        of optimizer are, and `ShapeError` for what does not have its parameter's shape, before anything is changed.
        """
        where = f"load_state_dict of {self._name}"
        if not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError(f"{where}: 'state' and 'param_groups' are needed, as state_dict() gives them, got {sorted(state_dict)}")
        saved = state_dict["param_groups"]
        sizes, given = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        if sizes != given:
            raise ValueError(f"{where}: groups of {sizes} parameters here, of {given} given")
        missing = sorted({name for group in saved for name in self.defaults.keys() - group.keys()})
        if missing:
            raise ValueError(f"{where}: the groups lack {', '.join(missing)}; were they saved by another optimizer?")
        groups = [{**own, **new, "params": own["params"]} for own, new in zip(self.param_groups, saved, strict=True)]
        for group in groups:
            self._check(self._options(group))
        numbered = dict(zip(chain.from_iterable(group["params"] for group in saved), self._parameters(), strict=True))
        strangers = sorted(state_dict["state"].keys() - numbered.keys())
        if strangers:
            raise ValueError(f"{where}: state of parameters {strangers}, which are in no group")
        state = {
            numbered[i]: {key: _restored(f"{where}: {key} of parameter {i}", value, numbered[i]) for key, value in remembered.items()}
            for i, remembered in state_dict["state"].items()
        }
        self.param_groups, self.state = groups, defaultdict(dict, state)

    # -- showing ------------------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {key}: {group[key]}" for key in sorted(group.keys() - {"params"}))]
        return "\n".join([*lines, ")"])


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for::

        g <- g + weight_decay theta
        b <- momentum b + (1 - dampening) g              b = g in the first step
        theta <- theta - lr b                            nesterov: theta - lr (g + momentum b)

    With ``maximize`` g is the negative gradient. Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013, except that lr stands outside of b. `ValueError` for negative options and for ``nesterov`` without momentum
    or with dampening. As ``torch.optim.SGD``.

    >>> w = mt.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     w.grad = mt.tensor([1.0])
    ...     optimizer.step()
    >>> w                                                # 1 - 0.1 * 1 - 0.1 * 1.9
    tensor([0.71], requires_grad=True)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {**options, "maximize": maximize})

    def update(
        self, theta: Tensor, g: Tensor, state: State, lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool
    ) -> Tensor:
        """The formula above."""
        if weight_decay:
            g = g + weight_decay * theta
        if not momentum:
            return theta - lr * g
        b = momentum * state["momentum_buffer"] + (1 - dampening) * g if "momentum_buffer" in state else +g  # a copy
        state["momentum_buffer"] = b
        return theta - lr * (g + momentum * b if nesterov else b)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if options["nesterov"] and (not options["momentum"] or options["dampening"]):
            raise ValueError(
                f"{self._name}: nesterov needs momentum and no dampening, got momentum={options['momentum']}, "
                f"dampening={options['dampening']}"
            )


class Adam(Optimizer):
    """Gradient descent in units of each element's own gradients: adaptive moment estimation::

        g <- g + weight_decay theta
        m <- beta_1 m + (1 - beta_1) g                   m = v = 0 before the first step
        v <- beta_2 v + (1 - beta_2) g**2
        theta <- theta - lr m_hat / (sqrt(v_hat) + eps)  m_hat = m / (1 - beta_1**t), v_hat = v / (1 - beta_2**t) in step t

    With ``decoupled_weight_decay``, theta <- theta - lr weight_decay theta takes the place of the first line, as in `AdamW`; with
    ``amsgrad`` the largest v so far stands in v_hat; with ``maximize`` g is the negative gradient. Kingma and Ba, "Adam: a method for
    stochastic optimization", ICLR 2015, arXiv 1412.6980; Reddi, Kale and Kumar, "On the convergence of Adam and beyond", ICLR 2018.
    `ValueError` for negative options and for betas outside of [0, 1). As ``torch.optim.Adam``.

    >>> w = mt.tensor([1.0, 1.0], requires_grad=True)
    >>> w.grad = mt.tensor([100.0, 0.01])
    >>> Adam([w], lr=0.1).step(); w                      # the first step is lr, whatever the size of g
    tensor([0.9, 0.9], requires_grad=True)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**options, "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def update(
        self,
        theta: Tensor,
        g: Tensor,
        state: State,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        decoupled_weight_decay: bool,
    ) -> Tensor:
        """The formula above."""
        beta_1, beta_2 = betas
        if decoupled_weight_decay:
            theta = theta - lr * weight_decay * theta
        elif weight_decay:
            g = g + weight_decay * theta
        t = state["step"] = int(state.get("step", 0)) + 1
        m = state["exp_avg"] = beta_1 * state.get("exp_avg", 0.0) + (1 - beta_1) * g
        v = state["exp_avg_sq"] = beta_2 * state.get("exp_avg_sq", 0.0) + (1 - beta_2) * g * g
        if amsgrad:
            v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", v), v)
        m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
        towards: Tensor = m_hat / (np.sqrt(v_hat) + eps)
        return theta - lr * towards

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        betas = options["betas"]
        if not isinstance(betas, tuple) or len(betas) != 2 or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {betas!r}")


class AdamW(Adam):
    """`Adam` with weight decay beside the gradient: theta <- theta - lr weight_decay theta, and then Adam's step without weight decay.

    So that the decay is not divided by sqrt(v_hat). Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, arXiv
    1711.05101. `ValueError` as for Adam, and where ``decoupled_weight_decay`` is off, as in a state dict of Adam's. As
    ``torch.optim.AdamW``.

    >>> w = mt.tensor([1.0], requires_grad=True)
    >>> w.grad = mt.tensor([0.0])
    >>> AdamW([w], lr=0.1, weight_decay=0.5).step(); w
    tensor([0.95], requires_grad=True)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if not options["decoupled_weight_decay"]:
            raise ValueError(f"{self._name}: decoupled_weight_decay must be True; without it, use Adam")


def _working_dtype(parameter: Tensor) -> np.dtype[Any]:
    return np.promote_types(parameter.dtype, np.float32)


def _plain(value: Any) -> Any:
    """An option as Python's numbers: NumPy's would promote what they are multiplied with."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    return value.item() if hasattr(value, "item") else value


def _restored(what: str, value: Any, parameter: Tensor) -> Any:
    if not hasattr(value, "shape"):
        return value
    if value.shape not in ((), parameter.shape):
        raise ShapeError(f"{what}: the parameter is {describe(parameter)}, got {describe(value)}")
    return Tensor(value, _working_dtype(parameter), parameter.device)

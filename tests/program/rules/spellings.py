"""Every spelling of a function that has a rule.

Each works on x (the step's input), h (the state) and m (the cell, with parameters), all with 6 features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tests.program.rules.products import PRODUCTS as PRODUCTS
from tests.program.rules.products import REPEATED as REPEATED
from tests.program.steps import H

FUNCTIONS = """
-h; torch.neg(h); h.neg(); torch.negative(h); h.negative()
torch.reciprocal(h + 3); (h + 3).reciprocal(); 1 / (h + 3)
torch.exp(h); h.exp(); torch.log(h.abs() + 1); (h.abs() + 1).log(); torch.log1p(h.abs()); h.abs().log1p()
torch.expm1(h); h.expm1(); torch.sqrt(h.abs() + 1); (h.abs() + 1).sqrt(); torch.rsqrt(h.abs() + 1)
(h.abs() + 1).rsqrt()
torch.square(h); h.square(); h ** 2; h.pow(2); torch.pow(h, 2.0); abs(h); h.abs(); torch.absolute(h)
torch.sign(h); h.sign(); torch.sgn(h)
torch.sigmoid(h); h.sigmoid(); F.sigmoid(h); torch.special.expit(h)
torch.tanh(h); h.tanh(); F.tanh(h); torch.relu(h); h.relu(); F.relu(h); F.relu6(4 * h)
F.leaky_relu(h); F.leaky_relu(h, 0.3); F.elu(h); F.elu(h, 0.7); F.gelu(h); F.gelu(h, approximate="tanh"); F.silu(h)
F.softplus(h); F.softplus(h, 2.0, 3.0); F.softsign(h); F.hardsigmoid(3 * h); F.hardtanh(h); F.hardtanh(h, -0.2, 0.4)
F.logsigmoid(h); torch.erf(h); h.erf(); torch.sin(h); h.sin(); torch.cos(h); h.cos()
h.clamp(-0.5, 0.5); torch.clamp(h, min=-0.1); h.clamp(max=0.1); torch.clip(h, -0.2, 0.2); h.clamp_min(0.1)
torch.clamp_max(h, 0.1); h.clip(max=0.3); F.dropout(h, 0.5, False); F.dropout(h, 0.0, True)
h.clone(); h.contiguous(); h.to(torch.float64); h.double(); h.type_as(x); h.to(x)
torch.nn.Sigmoid()(h); torch.nn.GELU()(h); torch.nn.Softplus()(h); torch.nn.Hardtanh(-0.3, 0.2)(h); torch.nn.ReLU()(h)
torch.nn.LeakyReLU(0.2)(h); torch.nn.ELU(0.3)(h); torch.nn.Identity()(h); torch.nn.Dropout(0.5).eval()(h)
F.relu6(4 * h); torch.nn.ReLU6()(4 * h); F.mish(h); torch.nn.Mish()(h); F.hardswish(3 * h)
torch.nn.Hardswish()(2 * h)
torch.nn.Softsign()(h); torch.nn.LogSigmoid()(h); torch.nn.Hardsigmoid()(3 * h); torch.nn.Tanh()(h)
torch.nn.SiLU()(h)
F.celu(h); F.celu(h, 0.5); torch.nn.CELU(2.0)(h); F.selu(h); torch.selu(h); torch.nn.SELU()(h); F.tanhshrink(h)
F.softshrink(h, 0.2); F.hardshrink(h, 0.3); torch.nn.Softshrink()(h); h.hardshrink(0.1); F.threshold(h, 0.1, -0.7)
F.prelu(h, m.v); F.prelu(h, m.one); torch.prelu(h, m.one); F.glu(torch.cat([h, x], 1))
F.glu(torch.cat([x, h], 1), dim=1)
torch.nn.GLU()(torch.cat([h, x * h], 1)); torch.log2(h.abs() + 1); (h.abs() + 1).log10(); torch.exp2(h); h.exp2()
torch.erfc(h); torch.special.erfc(h); torch.tan(h); h.tan(); torch.logit(torch.sigmoid(h))
torch.sigmoid(h).logit(0.2)
torch.special.logit(torch.sigmoid(h), 1e-6); torch.special.expm1(h); torch.special.log1p(h.abs()); +h
torch.positive(h)
torch.nn.Threshold(0.1, 0.2)(h); torch.nn.Sequential(torch.nn.Tanh())(h)
torch.nn.Sequential(m.linear, torch.nn.ReLU(), torch.nn.Identity())(h)
torch.sigmoid(input=h); F.silu(input=h, inplace=False); F.leaky_relu(input=h, negative_slope=0.3)
torch.nn.Dropout1d(0.5).eval()(h); torch.nn.AlphaDropout(0.5).eval()(h)
torch.floor(4 * h); (3 * h).floor(); torch.ceil(4 * h); h.ceil() * x; torch.round(5 * h); (5 * h).round() + h
torch.round(5 * h, decimals=1); (50 * h).round(decimals=-1); torch.trunc(4 * h); torch.fix(4 * h); torch.frac(3 * h)
torch.asin(h.tanh()); torch.arcsin(0.9 * h.tanh()); torch.acos(0.9 * h.tanh()); h.sigmoid().arccos(); torch.atan(h)
h.arctan(); torch.sinh(h); h.cosh(); torch.asinh(h); h.arcsinh(); torch.acosh(h.abs() + 1.5); (h.abs() + 2).arccosh()
torch.atanh(0.9 * h.tanh()); (h.sigmoid() * 0.9).arctanh(); torch.sinc(h); torch.deg2rad(90 * h); h.rad2deg()
F.prelu(h.view(-1, 2, 3), m.v[:2]).flatten(1); F.glu(torch.cat([h.view(-1, 2, 3), x.view(-1, 2, 3)], 1), 1).flatten(1)
"""

POINTWISE = """
h + x; x + h; torch.add(h, x); h.add(x); h + 1; 1 + h; h + m.v; m.v + h; h + m.one; h + m.v[0]
h - x; x - h; torch.sub(h, x); h.sub(x); torch.subtract(h, x); h - 2; 2 - h; m.v - h; torch.rsub(h, x)
h * x; torch.mul(h, x); h.mul(m.v); torch.multiply(h, x); 3 * h; h * 3.5; h * torch.tensor(2.0)
h / (x.abs() + 1); torch.div(h, m.positive); h.div(2); torch.divide(h, 4.0); torch.true_divide(h, m.positive)
2.0 / (h.abs() + 1); m.v / (h.abs() + 1)
torch.minimum(h, x); torch.maximum(h, m.v); torch.max(h, x); torch.min(h, x)
(h.abs() + 1) ** 1.5; torch.pow(h.abs() + 1, x); (h.abs() + 1).pow(m.positive); (h.abs() + 1) ** m.positive; 2 ** h
2.0 ** h; torch.pow(2.0, h); h ** 3; h ** -1
torch.where(h > x, h, x); torch.where(h >= 0, h, 0.0); torch.where(h < 0.1, 1.0, h); torch.where(h <= x, m.v, h)
torch.where((h > 0) & (x > 0), h, -h); torch.where((h > 0) | (x > 0), h, -h); torch.where(~(h > 0), h, 2 * h)
torch.where(torch.logical_not(h > 0), h, x); torch.where(torch.logical_and(h > 0, x < 0), h, x)
torch.where(torch.logical_or(h > 0, x < 0), h, x); torch.where(h == 0, x, h); torch.where(h != x, x, h)
torch.where(h.gt(0), h, x); torch.where(torch.lt(h, x), h, x); torch.where(h.ge(0), h, x)
torch.where(torch.le(h, 0), h, x)
torch.where(h.eq(x), h, x); torch.where(h.ne(x), h, x); torch.where(torch.greater(h, x), h, x)
torch.where(torch.less(h, x), h, x)
h.masked_fill(h > 0, -1.0); h.masked_fill(x > 0, 0.5); (h > 0).to(h.dtype) * x; (h > 0).double() * x
h * (x > 0); h * (h > 0)
torch.lerp(h, x, 0.3); h.lerp(x, 0.25); torch.lerp(h, x, torch.sigmoid(x)); torch.lerp(x, h, m.v); torch.lerp(h, x, h)
torch.addcmul(h, x, m.v); torch.addcmul(h, x, h, value=0.5); torch.addcmul(x, h, h)
h + h[:, :1]; h[:, 2:3] * x; h - h.mean(1, keepdim=True); x + h.sum(-1, keepdim=True); h * x[:, :1]; x[:, :1] - h
h + torch.zeros_like(h); h * torch.ones_like(x); h + torch.full_like(h, 0.5); h + h.new_zeros(H)
h + h.new_ones(h.shape)
h + torch.zeros(h.shape[0], H, dtype=h.dtype); h * torch.arange(6.0, dtype=h.dtype)
h + torch.eye(6, dtype=h.dtype)[0]
torch.add(h, x, alpha=2); torch.sub(h, x, alpha=0.5); h.add(1, alpha=3); torch.rsub(h, x, alpha=2)
h.sub(m.v, alpha=-1)
torch.add(input=h, other=x); torch.mul(input=h, other=2.0); torch.where(condition=h > 0, input=h, other=x)
torch.addcdiv(h, x, m.positive); torch.addcdiv(h, x, h.abs() + 1, value=0.5); h.addcmul(x, m.v, value=2)
torch.hypot(h, x); torch.logaddexp(h, x); h.logaddexp(m.v); torch.logaddexp(h, h)
torch.clamp(h, x, x + 0.5); torch.clamp(h, min=m.v); torch.clamp(h, max=x); h.clamp_min(x); torch.clamp_max(h, m.v)
torch.nan_to_num(h); h.nan_to_num(nan=1.0); torch.where(torch.isnan(h), x, h); torch.where(h.isinf(), x, 2 * h)
torch.where(torch.isfinite(h), x, h); torch.where((h > 0) ^ (x > 0), h, x)
torch.where(torch.logical_xor(h, x > 0), h, x)
torch.logical_and(h, x).to(h.dtype) * x; torch.logical_or(h, x > 9).double() * h; h * h.bool()
torch.where(torch.logical_not(h), h, x); torch.where(h.bool() & (x > 0), h, x); torch.where(h.not_equal(x), h, x)
((h > 0) + (x > 0)).double() + h; ((h > 0) * (x > 0)).double() + h; (h > 0).double() - h
(h > 0).to(torch.float64) * h
h % 0.3; h % -0.4; torch.remainder(h, m.positive); torch.remainder(h, x); h.remainder(0.7); torch.fmod(h, 0.3)
h.fmod(x); torch.fmod(h, m.positive); 2 % ((h > x).double() + 0.7) + h; torch.atan2(h, x); h.arctan2(x.abs() + 1)
torch.div(h, 0.3, rounding_mode="floor"); torch.div(h, x, rounding_mode="trunc")
h.div(m.positive, rounding_mode="floor")
((h > x).double() * 3) // 2 + h; torch.floor_divide((h > x).double() * 3, 2) * h; 5 // ((h > x).double() + 1) + h
torch.heaviside((h > x).double() - 0.5 * (x > 0), m.v.detach()) * h
h * np.float32(0.5); np.float32(0.5) * h; h + np.float64(0.1); np.int64(2) - h; h ** np.int64(2); np.float32(2) ** h
h / np.float64(0.3); np.float64(1) / (h.abs() + 1); h * np.bool_(True); torch.where(h > np.float32(0), h, np.float32(2))
torch.clamp(h, np.float32(-0.25), np.float32(0.25)); torch.add(h, x, alpha=np.float32(2))
h.masked_fill(x > 0, np.float64(3))
torch.lerp(h, x, np.float64(0.3)); F.leaky_relu(h, np.float64(0.1)); h % np.float64(0.3)
torch.lerp(h, x, weight=m.one); torch.lerp(input=h, end=x, weight=0.25); h.masked_fill(mask=x > 0, value=0.25)
"""

REDUCTIONS = """
h.sum(1, keepdim=True).expand(-1, 6); h.sum(-1, keepdim=True) + h; h.mean(1, keepdim=True) + x
torch.sum(h, 1, keepdim=True) * x; torch.mean(h, dim=-1, keepdim=True) + h; h.sum(dim=(1,), keepdim=True) + h
h.amax(1, keepdim=True) + h; torch.amax(h, -1, keepdim=True) + h; h.amax(dim=1).unsqueeze(1) + x
h.sum(1)[:, None] + h; h.mean(1).unsqueeze(-1) * x; h.sum(1).view(-1, 1) * x; h.mean(1).reshape(h.shape[0], 1) + h
h.view(-1, 2, 3).sum(-1).sum(-1, keepdim=True) + h
h.view(-1, 2, 3).mean(2, keepdim=True).expand(-1, 2, 3).flatten(1)
h.view(-1, 3, 2).amax(-1, keepdim=True).expand(-1, 3, 2).reshape(-1, 6)
h.amin(1, keepdim=True) + h; torch.amin(h, -1, keepdim=True) * x; h.max(1, keepdim=True).values + h
torch.max(h, dim=1, keepdim=True)[0] * x; h.max(-1)[0].unsqueeze(1) + x; h.min(1, keepdim=True).values + h
torch.min(h, 1, keepdim=True)[0] * h; h.view(-1, 2, 3).max(1)[0].repeat(1, 2) + h
h.view(-1, 2, 3).min(2).values.sum(1, keepdim=True) + h
torch.sum(input=h, dim=1, keepdim=True) + h; h.sum(axis=1, keepdims=True) + h; h.mean(axis=-1, keepdim=True) + h
h.view(-1, 2, 3).sum(1).repeat(1, 2); h.view(-1, 3, 2).mean(1).mean(1, keepdim=True) + h
h.view(-1, 2, 3).sum((1, 2)).unsqueeze(1) * x
h.view(-1, 2, 3).sum((1, 2), keepdim=True).flatten(1) + h; h.view(-1, 3, 2).amax(1).repeat(1, 3)
h.view(-1, 2, 3).amax((1, 2)).view(-1, 1) + h
h.view(-1, 1, 2, 3).sum(2).flatten(1).repeat(1, 2); h.view(-1, 2, 3, 1).mean((1, 3)).repeat(1, 2)
h.cumsum(1); torch.cumsum(h * x, dim=-1); h.cumprod(1); torch.cumprod(h, -1); h.unsqueeze(1).flatten(1).cumsum(-1)
(h > 0).any(1, keepdim=True) * h; (h > 0).all(dim=1, keepdim=True).double() + h; torch.any(h > 1, 1).unsqueeze(1) * h
(h > 0).sum(1, keepdim=True) * h; (h > x).sum(1).double().unsqueeze(1) / 6 + h
torch.count_nonzero(h > 0, 1).unsqueeze(1) * x
"""

NORMS = """
torch.softmax(h, 1); F.softmax(h, dim=-1); h.softmax(-1); h.softmax(dim=1); torch.log_softmax(h, 1)
F.log_softmax(h, dim=-1)
h.log_softmax(1); torch.nn.Softmax(1)(h); torch.nn.Softmax(-1)(h + x); h.view(-1, 2, 3).softmax(-1).flatten(1)
F.layer_norm(h, (6,)); F.layer_norm(h, (6,), m.v); F.layer_norm(h, (6,), m.v, m.positive)
F.layer_norm(h, (6,), None, m.v, 0.1)
F.layer_norm(h, [6], eps=1e-3); F.rms_norm(h, (6,)); F.rms_norm(h, (6,), m.v); F.rms_norm(h, (6,), m.v, 1e-2)
torch.nn.LayerNorm(6, dtype=torch.float64)(h); F.layer_norm(h.view(-1, 2, 3), (3,)).flatten(1)
h.view(-1, 2, 3).softmax(1).flatten(1); h.view(-1, 3, 2).log_softmax(1).flatten(1); F.softmin(h, 1)
torch.nn.Softmin(-1)(h)
torch.logsumexp(h, 1, keepdim=True) + h; h.logsumexp(-1).unsqueeze(1) * x
h.view(-1, 2, 3).logsumexp((1, 2)).unsqueeze(1) + h
torch.nn.LogSoftmax(-1)(h); torch.special.softmax(h, 1); torch.special.logsumexp(h, 1, True) + h
torch.var(h, 1, keepdim=True) + h; h.var(-1, keepdim=True) * x; h.var(1, False, True) + h
h.var(dim=1, correction=0).unsqueeze(1) + h
h.std(1, keepdim=True) + h; torch.std(h, dim=-1, unbiased=False, keepdim=True) * x
h.std(1, correction=2, keepdim=True) + h
torch.var_mean(h, 1, keepdim=True)[0] + h; torch.std_mean(h, dim=1, keepdim=True)[1] * h
h.view(-1, 2, 3).std((1, 2)).unsqueeze(1) + h
(h - h.mean(1, keepdim=True)) / (h.std(1, keepdim=True) + 1e-3)
(h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, keepdim=True, unbiased=False) + 1e-5)
h.norm(dim=1, keepdim=True) + h; h / h.norm(2, 1, keepdim=True); torch.norm(h, dim=1).unsqueeze(1) + h
h.norm(p=1, dim=-1, keepdim=True) + h
torch.linalg.norm(h, dim=1, keepdim=True) * x; torch.linalg.vector_norm(h, dim=-1, keepdim=True) + h
torch.linalg.vector_norm(h, float("inf"), 1, True) + h; torch.linalg.norm(h, ord=1, dim=1).unsqueeze(1) + x
F.normalize(h); F.normalize(h, dim=-1); F.normalize(h, p=1.0, dim=1); F.normalize(h + x, eps=10.0)
F.cosine_similarity(h, x).unsqueeze(1) + h; torch.cosine_similarity(h, x, dim=1, eps=1e-6).unsqueeze(1) * x
F.group_norm(h, 2); F.group_norm(h, 3, m.v, m.positive); torch.nn.GroupNorm(2, 6, dtype=torch.float64)(h)
F.layer_norm(h.view(-1, 2, 3), (2, 3)).flatten(1); F.layer_norm(h.view(-1, 2, 3), (2, 3), m.v.view(2, 3)).flatten(1)
torch.nn.RMSNorm(6, dtype=torch.float64)(h); F.layer_norm(input=h, normalized_shape=(6,), weight=m.v)
F.cosine_similarity(h.view(-1, 2, 3), m.w[:2, :3], dim=-1).repeat(1, 3)
F.cosine_similarity(h.view(-1, 2, 3), x[:, None, :3], dim=-1).repeat(1, 3) * h
F.cosine_similarity(h.unsqueeze(1), m.w, dim=2); torch.cosine_similarity(m.v, h, dim=-1)[:, None] + h
F.cosine_similarity(h, m.v.expand_as(h))[:, None] + h
F.cosine_similarity(h.view(-1, 2, 3), x.view(-1, 2, 3), dim=1).repeat(1, 2)
F.batch_norm(h, m.v.detach(), m.positive.detach())
F.batch_norm(h, m.v.detach(), m.positive.detach(), m.v, m.positive, eps=0.1)
F.batch_norm(h.view(-1, 2, 3), m.v.detach()[:2], m.positive.detach()[:2], m.v[:2], m.v[2:4]).flatten(1)
F.instance_norm(h.view(-1, 2, 3)).flatten(1)
F.instance_norm(h.view(-1, 2, 3), weight=m.v[:2], bias=m.v[2:4], eps=0.1).flatten(1)
torch.nn.InstanceNorm1d(2)(h.view(-1, 2, 3)).flatten(1); torch.nn.BatchNorm1d(6, dtype=torch.float64).eval()(h)
F.group_norm(h.view(-1, 2, 3), 2, m.v[:2], m.positive[:2]).flatten(1); F.group_norm(h.view(-1, 6, 1), 3).flatten(1)
"""

MOVES = """
h.chunk(2, 1)[0].sum(1, keepdim=True) + h; torch.cat(h.chunk(3, dim=-1)[::-1], 1)
torch.cat(torch.chunk(h, 2, 1), dim=1)
torch.cat(h.split(2, 1), -1); torch.cat(torch.split(h, [1, 2, 3], dim=1)[::-1], 1)
torch.cat(torch.tensor_split(h, 4, dim=1), 1)
torch.cat(h.split_with_sizes([4, 2], 1)[::-1], 1); torch.stack(h.unbind(1), 1); torch.stack(h.unbind(1)[::-1], dim=1)
torch.cat([h[:, 3:], x[:, :3]], 1); torch.cat((x[:, -1:], h[:, :-1]), dim=1); torch.hstack([h[:, :2], x[:, 2:]])
torch.concat([h[:, :4], h[:, :2]], 1); torch.concatenate([h[:, :4], x[:, :2]], 1)
torch.cat([h, x], 1)[:, 3:9]; h.narrow(1, 0, 3).sum(1, keepdim=True) + h; torch.narrow(torch.cat([h, x], 1), 1, 2, 6)
h.select(1, 2).unsqueeze(1) + h; h[:, 2].unsqueeze(1) * x; h[:, -1, None] + h; h[..., :2].mean(-1, keepdim=True) + h
h[:]
h.view(-1, 6); h.view(h.shape[0], 2, 3).view(h.shape[0], -1); h.reshape(-1, 3, 2).flatten(1)
h.unflatten(1, (2, 3)).flatten(1)
h.unsqueeze(1).squeeze(1); h[:, None].squeeze(1); h[:, None, :][:, 0]; h.view_as(x); h.reshape_as(x)
torch.flatten(h.view(-1, 2, 3), 1)
h.unsqueeze(2).expand(-1, 6, 4).mean(2); h.unsqueeze(1).expand(-1, 4, 6)[:, 1]; h[:, :1].expand_as(x)
h[:, :1].broadcast_to(h.shape)
(h.unsqueeze(2) * x.unsqueeze(1)).sum(2); (h.unsqueeze(1) * x.unsqueeze(2)).mean(2)
(h[:, :, None] + x[:, None, :]).amax(2)
(h.unsqueeze(1) * m.w).sum(2); (m.w * h.unsqueeze(2)).sum(2); (h.unsqueeze(1) - m.w).square().mean(-1)
h.view(-1, 2, 3)[:, 1].sum(1, keepdim=True) + h; h.view(-1, 2, 3).unbind(1)[0].mean(1, keepdim=True) * x
h.view(-1, 2, 3).transpose(1, 2).flatten(1); torch.moveaxis(h.view(-1, 2, 3), 2, 1).flatten(1)
h.view(-1, 2, 3).swapdims(1, 2).reshape(-1, 6)
torch.cat(torch.unsafe_chunk(h, 2, 1)[::-1], 1); torch.cat(torch.unsafe_split(h, 2, 1)[::-1], 1)
h.view(-1, 2, 3).permute(0, 2, 1).reshape(-1, 6)
h.view(-1, 2, 3).swapaxes(1, 2).flatten(1)
torch.movedim(h.view(-1, 1, 2, 3), 3, 1).flatten(1); torch.transpose(h.view(-1, 3, 2), 2, 1).flatten(1)
h.view(-1, 6, 1).permute(0, 2, 1).squeeze(1)
h.flip(1); torch.flip(h, (1,)); torch.fliplr(h); h.flip(-1) * x; h.roll(1, 1); torch.roll(h, shifts=-2, dims=1)
h.roll(1, dims=-1) + h
h[:, ::2].repeat(1, 2); h[:, 1::2].sum(1, keepdim=True) + h; h[:, [3, 1, 2, 0, 5, 4]]; h[:, (0, 0, 1, 1, 2, 2)]
h[..., 1:] .sum(1, keepdim=True) + h
h[:, None, :, None].flatten(1); h.view(-1, 2, 3)[..., 0].repeat(1, 3)
h.view(-1, 2, 3)[:, :, 1:].flatten(1).repeat(1, 2)[:, :6]
h.view(-1, 2, 3).unbind(2)[1].repeat(1, 3); h.view(-1, 2, 3).chunk(3, 2)[2].flatten(1).repeat(1, 3)
h.view(-1, 3, 2).select(2, -1).repeat(1, 2)
h.view(-1, 2, 3).narrow(2, 1, 2).flatten(1).sum(1, keepdim=True) + x
torch.cat([h.view(-1, 2, 3), x.view(-1, 2, 3)], 2)[:, :, 1:4].flatten(1)
torch.stack([h, x], 2).flatten(1)[:, ::2]; torch.stack([h, x], dim=-1).sum(-1); torch.stack((h, x), 1).amax(1)
torch.column_stack([h[:, :2], x[:, 2:]])
h.repeat(1, 2)[:, 3:9]; h[:, :2].repeat(1, 3); torch.tile(h[:, :3], (1, 2)); h[:, :2].repeat_interleave(3, dim=1)
torch.repeat_interleave(h[:, :3], 2, 1)
F.pad(h[:, :4], (1, 1)); F.pad(h[:, :3], (0, 3), value=0.5); F.pad(h[:, 1:], (1, 0), "constant", 1.0)
torch.hsplit(h, 2)[1].repeat(1, 2)
torch.split(h, 3, dim=-1)[1].repeat(1, 2); torch.unbind(h, dim=1)[2].unsqueeze(-1) + h
torch.squeeze(h.unsqueeze(2), 2); torch.unsqueeze(h, -1).squeeze(-1)
torch.reshape(h, (-1, 2, 3)).flatten(start_dim=1); torch.unflatten(h, 1, (2, 3)).flatten(1); h.expand(-1, -1)
torch.diagonal(h.unsqueeze(2) * x.unsqueeze(1), 0, 1, 2)
(h.unsqueeze(2) * x.unsqueeze(1)).tril().sum(2); torch.triu(h.unsqueeze(2) * x.unsqueeze(1), 1).sum(1)
h.view(-1, 2, 3).mT.flatten(1); torch.adjoint(h.view(-1, 2, 3)).flatten(1)
h.repeat(1, 4).view(-1, 3, 8).transpose(1, 2).flatten(1)[:, 5:11] * x; h.unsqueeze(2).expand(-1, 6, 30).mT.mean(1)
(x.unsqueeze(2) * h.repeat(1, 40).unsqueeze(1)).permute(0, 2, 1).flatten(1).view(-1, 6, 240).sum(2)
h[:, [0, 5, 0, 4, 0, 3, 0, 2, 0, 1]].cumsum(1)[:, 4:]
h.repeat(1, 3)[:, torch.arange(17, -1, -1).tolist()].view(-1, 6, 3).amax(2)
torch.cat([h, x], 1)[:, [0, 6, 0, 7, 1, 8, 2, 9, 3, 10, 4, 11]].view(-1, 6, 2).amax(2)
"""

IN_PLACE = """
y = h + 0; y += x; y -= 1; y *= h; y /= 2; r = y
y = h * 2; y.add_(x).mul_(0.5); y.tanh_(); r = y
y = h @ m.w; y.sigmoid_().neg_(); r = y
y = h + x; F.relu(y, inplace=True); r = y * 2
y = h + x; torch.relu_(y); r = y * 2
y = h + x; y.clamp_(-0.1, 0.2); r = y
y = h * 1; z = y * 3; y.exp_(); r = y + z
y = h * 2; y.copy_(x); r = y + h
y = h * 2; y.zero_(); r = y + h
y = h * 2; y.fill_(0.5); r = y + h
y = torch.zeros_like(h); y += h; r = y
y = torch.zeros_like(h); y += 1; r = y + h
y = torch.zeros(h.shape[0], 6, dtype=h.dtype); y[:, :3] = h[:, :3]; r = y
y = h * 2; y[:, 0] = 1.0; r = y
y = h * 2; z = y.view(-1, 2, 3); z += 1; r = y
y = h * 2; z = y[:, :3]; z.tanh_(); r = y
y = h * 2; z = y; z += 1; r = y + z
y = h * 2; y = F.dropout(y, 0.0, True, inplace=True); r = y
y = h * 2; y.detach_(); r = y
y = h * 1; a = y + 1; y += a; b = y * a; r = b
y = h * 1; z = y.clone(); y += 1; r = y * z
y = h * 1; z = y.contiguous(); y += 1; r = y * z
y = h * 1; z = y.to(y.dtype); y += 1; r = y * z
y = x * 2; y += 1; r = y * h
y = x * 2; z = y.view(-1, 6); z += 1; r = y * h
y = h * 2; z = y[:, :3]; F.relu(y, inplace=True); r = torch.cat([z, z], 1)
y = h * 2; torch.nn.SiLU(inplace=True)(y); r = y
y = h * 2; F.leaky_relu(y, 0.2, inplace=True); r = y + h
r = F.relu(h, inplace=True) + x
y = torch.zeros_like(h); y[:, :3] = h[:, 3:]; y[:, 3:] = x[:, :3]; r = y
y = h + x; y[:, 1:3] = 0.0; y[:, 4] = x[:, 0]; r = y * 2
y = h + x; y[..., ::2] = h[:, :3]; r = y
y = h + x; y[:, 2:] = m.v[2:]; r = y
y = h + x; y[0] = 1.0; r = y
y = h + x; y[h > 0] = 1.0; r = y
y = h + x; y[:, :3] += 1.0; r = y
y = h + x; y[:, 1:2] = h[:, 5:]; y.mul_(x); r = y
y = torch.zeros(h.shape[0], 6, dtype=h.dtype); y += h; r = y
y = torch.zeros(h.shape[0], 6, dtype=h.dtype); z = y.view(-1, 2, 3); y += h; r = z.flatten(1)
y = torch.ones(h.shape[0], 6, dtype=h.dtype); y.mul_(h); y.sub_(x); r = y
y = torch.empty(h.shape[0], 6, dtype=h.dtype); y[:, :3] = h[:, :3]; y[:, 3:] = x[:, :3]; r = y
y = torch.empty_like(h); y.copy_(x); r = y * h
y = torch.full((h.shape[0], 6), 0.5, dtype=h.dtype); y.addcmul_(h, x); r = y
y = h * 1; y.lerp_(x, 0.3); r = y
y = h * 1; y.masked_fill_(x > 0, 0.0); r = y
y = h * 1; y.clamp_min_(0.1); y.pow_(2); y.sqrt_(); r = y
y = h * 1; y.unsqueeze_(1); r = y.squeeze(1)
y = (h > 0); y &= x > 0; r = torch.where(y, h, x)
y = h * 1; y.copy_(m.v); r = y
y = h * 1; y.copy_(m.one); r = y + h
h[:, 0] = 1.0; r = h
y = torch.zeros(len(h), 6, dtype=h.dtype); y += m.v; r = y + h
y = torch.zeros(len(h), 6, dtype=h.dtype); y[:] = m.v; r = y * h
y = torch.zeros(len(h), 6, dtype=h.dtype); y[:, :2] = m.v[:2]; r = y + h
y = torch.zeros(len(h), 6, dtype=h.dtype); y[:, :2] = m.v[:2]; y[:, 3] = h[:, 0]; r = y + h
y = torch.zeros(len(h), 6, dtype=h.dtype); y[:, :2] = 1.0; r = y + h
y = torch.zeros(len(h), 6, dtype=h.dtype); y.copy_(m.v); y.tanh_(); r = y + h
y = torch.empty(len(h), 6, dtype=h.dtype); y[:, ::2] = m.v[:3]; y[:, 1::2] = m.v[3:]; r = y * h
y = torch.ones(len(h), 6, dtype=h.dtype) * m.v; y.mul_(m.positive).clamp_(-0.5, 0.5); r = y + h
"""

KINKS = """
torch.maximum(h, x); torch.minimum(h, x); torch.max(h, x); h.relu(); h.abs(); h.amax(1, keepdim=True) + h
h.amin(1, keepdim=True) + h
h.max(1, keepdim=True).values + h; h.min(1, keepdim=True).values + h; torch.max(h.view(-1, 2, 3), 1)[0].repeat(1, 2)
h.clamp(0.0, 1.0); h.clamp(min=0.0); h.clamp(x, x + 1); h.clamp(max=x); h.clamp_min(0.0); F.hardtanh(h)
F.leaky_relu(h)
F.elu(h); F.celu(h); F.selu(h); F.hardsigmoid(3 * h); F.hardsigmoid(-3 * h); F.hardswish(3 * h); F.relu6(6 * h)
F.relu6(3 * h)
torch.sign(h) * h; torch.where(h > 0, h, -h); h.square(); F.softsign(h); F.softplus(h, 1.0, 1.0)
F.threshold(h, 1.0, 0.5)
F.hardshrink(h, 1.0); F.softshrink(h, 1.0); F.prelu(h, m.v); F.prelu(h, m.one); h.softmax(1); h ** 3; h.pow(2)
h.cumprod(1)
h.detach() * x + h; x.data * h; (h * 2 - h).detach() + h
torch.logaddexp(h, x); torch.logaddexp(h, h); h.logsumexp(1, keepdim=True) + x; h.norm(dim=1, keepdim=True) + h
h.norm(1, 1, True) * h
torch.linalg.vector_norm(h, float("inf"), 1, True) + h; h.std(1, keepdim=True) + h; h.var(1, keepdim=True) + x
F.normalize(h)
F.logsigmoid(h); F.mish(h); F.silu(h); F.gelu(h); torch.logit(h, 0.25); torch.lerp(h, x, h); torch.abs(h - x)
F.cosine_similarity(h, x)[:, None]
h % 1.0; h % -2.0; torch.fmod(h, 2.0); torch.remainder(h, x * 0 + 0.5); torch.floor(h); torch.round(h * 0.5)
torch.atan(h); torch.atan2(h, x.abs() + 1); torch.sinc(h); torch.frac(h)
torch.div(h, 0.5, rounding_mode="floor"); h.abs() ** x; torch.logit(h, 0.0); h.clamp(1.0, -1.0)
F.normalize(h, eps=3.0); torch.where(h == x, h * 2, x * 3); torch.clamp(h, x, x + 1); torch.round(h, decimals=1)
"""


def spellings(text: str) -> list[str]:
    """Return the expressions of a table."""
    return [part.strip() for line in text.strip().splitlines() for part in line.split(";") if part.strip()]


EXPRESSIONS = [
    t for text in (FUNCTIONS, POINTWISE, REDUCTIONS, NORMS, PRODUCTS, REPEATED, MOVES) for t in spellings(text)
]
STATEMENTS = [line.strip() for line in IN_PLACE.strip().splitlines()]


def step_of(text: str) -> Any:
    """Make a step of an expression, or of statements that end in r = ..."""
    names = {"torch": torch, "F": F, "H": H, "np": np}
    if "r = " in text:
        body = "\n    ".join(part.strip() for part in text.split(";"))
        exec(compile(f"def run(x, h, m):\n    {body}\n    return r\n", "step.py", "exec"), names)
        return names["run"]
    return eval(f"lambda x, h, m: {text}", names)


def posed(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an input and a state."""
    generator = torch.Generator().manual_seed(6)
    x, h = torch.randn(2, batch, H, generator=generator, dtype=torch.float64)
    return x, h

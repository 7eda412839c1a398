"""Spellings of products, and of what is the same for every row: see `spellings`."""

from __future__ import annotations

PRODUCTS = """
F.linear(h, m.w); F.linear(h, m.w, m.v); h @ m.w; torch.matmul(h, m.w); h.matmul(m.w.t()); torch.mm(h, m.w)
h.mm(m.w.T)
torch.addmm(m.v, h, m.w); torch.addmm(x, h, m.w); F.linear(torch.cat([h, x], 1), m.u); torch.cat([x, h], -1) @ m.w2
F.linear(x, m.w) + F.linear(h, m.w); F.linear(h, m.w.t()); F.linear(h, 2 * m.w); F.linear(h, m.w2[:6])
F.linear(h, m.u[:, 6:])
F.linear(x, m.w2).chunk(2, 1)[1] * h; F.linear(h, m.w2)[:, 6:]
h @ torch.linalg.qr(m.w)[0]; F.linear(h, m.w.exp()); F.linear(h * x, m.w) * F.linear(x, m.w)
torch.einsum("bi,ij->bj", h, m.w); torch.einsum("bi,oi->bo", h, m.w); torch.einsum("...i,oi->...o", h, m.w)
torch.einsum("b i, i o -> b o", [h, m.w]); torch.einsum("oi,bi->bo", m.w, h); torch.einsum("bi,i->bi", h, m.v)
torch.einsum("bi,bi->b", h, x).unsqueeze(1) + h; torch.einsum("bi,bj->bij", h, x).sum(2)
torch.einsum("bi,i->b", h, m.v)[:, None] + h
torch.einsum("bij,bj->bi", x.unsqueeze(2) * h.unsqueeze(1), h)
torch.einsum("bij,bi->bj", x.unsqueeze(2) * h.unsqueeze(1), h)
torch.einsum("bnk,ko->bno", h.view(-1, 1, 6), m.w).flatten(1)
torch.einsum("bhd,bhd->bh", h.view(-1, 2, 3), x.view(-1, 2, 3)).repeat(1, 3)
torch.einsum("bij,bjk->bik", h.view(-1, 2, 3), x.view(-1, 3, 2)).flatten(1).repeat(1, 2)[:, :6]
torch.bmm(h.unsqueeze(1), x.unsqueeze(2)).squeeze(1) + h
(x.unsqueeze(2) * h.unsqueeze(1) @ h.unsqueeze(2)).squeeze(2)
torch.bmm(h.unsqueeze(1), x.unsqueeze(2) * h.unsqueeze(1)).squeeze(1)
torch.matmul(h.view(-1, 2, 3), x.view(-1, 3, 2)).flatten(1).sum(1, keepdim=True) + h
torch.bmm(h.unsqueeze(2), x.unsqueeze(1)).mean(2); torch.addmm(m.v, h, m.w, beta=0.5, alpha=2.0)
torch.addmm(x, h, m.w, beta=0)
F.linear(torch.stack([h, x], 1), m.w, m.v).flatten(1)[:, 3:9]; torch.stack([h, x * h], 1).matmul(m.w).mean(1)
torch.inner(h, m.w)
F.scaled_dot_product_attention(h.view(-1, 2, 3), x.view(-1, 2, 3), h.view(-1, 2, 3)).flatten(1)
F.scaled_dot_product_attention(x.unsqueeze(1), m.w.expand(len(h), 6, 6), h.view(-1, 6, 1)).squeeze(2).repeat(1, 6)
m.linear(h); m.linear(torch.tanh(h))
torch.einsum("bhd,hde->bhe", h.view(-1, 2, 3), m.w.view(4, 3, 3)[:2]).flatten(1)
torch.matmul(h.view(-1, 2, 1, 3), m.w.view(4, 3, 3)[:2]).flatten(1)
torch.einsum("bhd,hed->bhe", h.view(-1, 3, 2), m.w.view(9, 2, 2)[:3]).flatten(1)
torch.einsum("bhd,hd->bh", h.view(-1, 3, 2), m.v.view(3, 2)).repeat(1, 2)
(m.w[:2, :2] @ h.view(-1, 2, 3)).flatten(1); torch.matmul(m.w[:3, :2], h.view(-1, 2, 3)).flatten(1)[:, :6] + h
torch.einsum("nm,bmf->bnf", m.w[:2, :2], h.view(-1, 2, 3)).flatten(1)
torch.bmm(h.unsqueeze(1), m.w.expand(h.shape[0], -1, -1)).squeeze(1)
torch.bmm(m.w.expand(h.shape[0], 6, 6), h.unsqueeze(2)).squeeze(2)
torch.bmm(h.unsqueeze(1), m.w.unsqueeze(0).repeat(h.shape[0], 1, 1)).squeeze(1)
torch.einsum("...i,ij->...j", h.view(-1, 2, 3), m.w[:3, :3]).flatten(1)
torch.einsum("b...i,i...->b...", h.view(-1, 2, 3), m.v.view(3, 2)).repeat(1, 3)
torch.einsum("bi,bj,ijk->bk", h, x, m.w.view(6, 6, 1).expand(6, 6, 6))
torch.einsum("bi,ij,bj->b", h, m.w, x)[:, None] + h; torch.einsum("bi,ij,jk->bk", h, m.w, m.w)
torch.einsum("ij,jk,bk->bi", m.w, m.w, h)
torch.einsum("bi,bi,i->bi", h, x, m.v); torch.einsum("bij->bji", h.view(-1, 2, 3)).flatten(1)
torch.einsum("bij->bi", h.view(-1, 2, 3)).repeat(1, 3); torch.einsum("bi,ij", h, m.w)
F.bilinear(h, x, m.w.view(1, 6, 6).expand(6, 6, 6), m.v); torch.tensordot(h, m.w, 1)
torch.tensordot(h, m.w, dims=([1], [1])); torch.tensordot(h.view(-1, 2, 3), m.w.view(2, 3, 6), 2)
torch.tensordot(h.view(-1, 2, 3), m.w[:2], dims=([1], [0])).flatten(1)[:, :6] + x
torch.baddbmm(x.unsqueeze(1), h.unsqueeze(1), m.w.expand(h.shape[0], 6, 6)).squeeze(1)
torch.baddbmm(x.unsqueeze(2), x.unsqueeze(2) * h.unsqueeze(1), h.unsqueeze(2), beta=0.5, alpha=2).squeeze(2)
torch.linalg.vecdot(h, x)[:, None] + h; torch.linalg.vecdot(h, x, dim=1)[:, None] * x
torch.inner(h, m.v)[:, None] + h; F.linear(h, m.v)[:, None] * x
torch.matmul(h, m.v)[:, None] + h; (h.view(-1, 2, 3) @ m.v[:3]).repeat(1, 3)
(m.v[:2] @ h.view(-1, 2, 3)).repeat(1, 2); torch.matmul(h.view(-1, 2, 3), m.w[:3]).flatten(1)[:, 2:8]
torch.matmul(h.view(-1, 1, 2, 3), x.view(-1, 1, 3, 2)).flatten(1).repeat(1, 2)[:, :6]
torch.matmul(h.view(-1, 1, 2, 3), x.view(-1, 2, 3, 1)).flatten(1).repeat(1, 2)[:, :6] + h
torch.einsum("bhi,bhj->bhij", h.view(-1, 2, 3), x.view(-1, 2, 3)).sum(3).flatten(1)
torch.einsum("bhij,bhj->bhi", h.view(-1, 2, 3)[..., None] * x.view(-1, 2, 1, 3), h.view(-1, 2, 3)).flatten(1)
torch.matmul(m.w.view(1, 6, 6), h.unsqueeze(2)).squeeze(2); torch.einsum("bi,j->bij", h, m.v).mean(2) + h
"""

REPEATED = """
torch.bmm(h.unsqueeze(1), m.w.unsqueeze(0).repeat(h.shape[0], 1, 1)).squeeze(1)
torch.zeros(h.shape[0], 6, dtype=h.dtype) * m.v + h; torch.ones(h.shape[0], 6, dtype=h.dtype) * m.v * h
F.linear(torch.ones(h.shape[0], 6, dtype=h.dtype), m.w) + h
F.linear(torch.ones(h.shape[0], 6, dtype=h.dtype), m.w, m.v).tanh() * h
m.linear(torch.zeros(len(x), 6, dtype=h.dtype)) + h; torch.full((len(h), 6), 0.5, dtype=h.dtype) @ m.w + h
torch.cat([torch.ones(len(h), 2, dtype=h.dtype) * m.v[:2], h[:, :4]], 1)
(torch.ones(len(h), 6, dtype=h.dtype) + m.v).softmax(1) * h; torch.sigmoid(m.v.expand(len(h), -1)) * h
torch.ones_like(h) * m.v + h; (h.new_ones(len(h), 6) * m.v).chunk(2, 1)[0].repeat(1, 2) * h
(torch.ones_like(h) @ m.w).view(-1, 2, 3).sum(2).repeat(1, 3) + x
torch.where(torch.zeros(len(h), 6, dtype=h.dtype) < m.v, h, x); (m.v > 0).repeat(len(h), 1) * h
torch.where((m.v.expand(len(h), 6) > 0), h, x); torch.where(m.v > 0, h, x)
m.v.repeat(len(h), 1) + h; m.v.tile(len(h), 1) * h; m.v.unsqueeze(0).repeat_interleave(len(h), 0) + h
torch.stack([m.v.expand_as(h), h], 1).sum(1)
m.v.expand_as(h).mean(1, keepdim=True) * h; (torch.ones_like(h) * m.v).mean() * h
(torch.ones_like(h) * m.v).amax() * h
F.layer_norm(m.v.expand_as(h) * 2, (6,), m.positive) + h; F.dropout(m.v.expand_as(h), 0.0) * h
(m.v.expand_as(h) ** 2).cumsum(1) * h
torch.einsum("bi,ij->bj", torch.ones_like(h), m.w) * h
torch.matmul(torch.ones_like(h).unsqueeze(1), h.unsqueeze(2)).squeeze(2) + x
"""
"""What a step makes of parameters and numbers alone, the same for every row."""

/** Sums of what turns used. */
import type { Usage } from "../api/types";

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    cache_read_tokens: a.cache_read_tokens + b.cache_read_tokens,
    cache_write_tokens: a.cache_write_tokens + b.cache_write_tokens,
    cost_microusd: a.cost_microusd + b.cost_microusd,
    requests: a.requests + b.requests,
  };
}

/** Never below nothing. */
export function subtractUsage(a: Usage, b: Usage): Usage {
  return {
    input_tokens: Math.max(0, a.input_tokens - b.input_tokens),
    output_tokens: Math.max(0, a.output_tokens - b.output_tokens),
    cache_read_tokens: Math.max(0, a.cache_read_tokens - b.cache_read_tokens),
    cache_write_tokens: Math.max(0, a.cache_write_tokens - b.cache_write_tokens),
    cost_microusd: Math.max(0, a.cost_microusd - b.cost_microusd),
    requests: Math.max(0, a.requests - b.requests),
  };
}

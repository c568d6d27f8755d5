import type { CorsPolicy } from '../../model/index.ts'
import type { RequestHead } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import { compileStringMatch, type TextTest } from '../routing/string-matcher.ts'

/** What a rule's policy says about a request. */
export type CorsDecision =
  /** No page of another origin asks, or the policy does not know its origin: nothing is added. */
  | { readonly kind: 'none' }
  /** Answer the preflight request with these fields. */
  | { readonly kind: 'preflight'; readonly headers: HeaderFields }
  /** Add these fields to the answer. */
  | { readonly kind: 'allow'; readonly headers: HeaderFields }

const none: CorsDecision = { kind: 'none' }

/** Decides as the Fetch standard's servers do; backends are not asked about preflight requests that are allowed. */
export function decideCors(policy: CorsPolicy | undefined, { method, headers }: RequestHead): CorsDecision {
  const origin = policy === undefined ? undefined : headers.get('origin')
  if (policy === undefined || origin === undefined) return none
  const isPreflight = method === 'OPTIONS' && headers.has('access-control-request-method')
  if (!testsOf(policy).some((test) => test(origin))) {
    return isPreflight && policy.unmatchedPreflights === 'ignore'
      ? { kind: 'preflight', headers: new HeaderFields() }
      : none
  }
  const fields: [string, string][] = [['access-control-allow-origin', origin]]
  if (policy.allowCredentials) fields.push(['access-control-allow-credentials', 'true'])
  fields.push(...(isPreflight ? preflightFields(policy) : exposedFields(policy)), ['vary', 'origin'])
  const answer = HeaderFields.of(Object.fromEntries(fields))
  return { kind: isPreflight ? 'preflight' : 'allow', headers: answer }
}

function preflightFields({ methods, headers, maxAgeSeconds }: CorsPolicy): [string, string][] {
  const fields: [string, string][] = []
  if (methods.length > 0) fields.push(['access-control-allow-methods', methods.join(',')])
  if (headers.length > 0) fields.push(['access-control-allow-headers', headers.join(',')])
  if (maxAgeSeconds !== undefined) fields.push(['access-control-max-age', String(maxAgeSeconds)])
  return fields
}

function exposedFields({ exposeHeaders }: CorsPolicy): [string, string][] {
  return exposeHeaders.length === 0 ? [] : [['access-control-expose-headers', exposeHeaders.join(',')]]
}

/** Adds what pages may read to an answer; what else it depends on stays said. */
export function addCorsFields(fields: HeaderFields, decision: CorsDecision): void {
  if (decision.kind !== 'allow') return
  decision.headers.forEach((name, lowerName, value) => {
    if (lowerName === 'vary') fields.add(name, lowerName, value)
    else fields.set(name, lowerName, value)
  })
}

const compiled = new WeakMap<CorsPolicy, readonly TextTest[]>()

/** Throws `PatternError` for a regex that is none; such rules are broken before they are asked. */
function testsOf(policy: CorsPolicy): readonly TextTest[] {
  const known = compiled.get(policy)
  if (known !== undefined) return known
  const tests = policy.origins.map((origin) => compileStringMatch(origin))
  compiled.set(policy, tests)
  return tests
}

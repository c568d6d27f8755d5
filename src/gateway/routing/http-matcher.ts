import type { HttpMatch, NamedMatch } from '../../model/index.ts'
import { hostOf } from './host-pattern.ts'
import { parseQuery, type RequestPath } from './request-path.ts'
import { compileStringMatch, type TextTest } from './string-matcher.ts'

/** What of a request rules can ask about. */
export interface RoutableRequest {
  readonly method: string
  readonly scheme: 'http' | 'https'
  /** Host or :authority as it came. */
  readonly authority: string
  readonly target: RequestPath
  /** The value of a header by lower-case name, several joined with a comma; undefined when it is not there. */
  header(name: string): string | undefined
}

/** A match made ready for many requests. */
export interface HttpMatcher {
  /** The prefix that a rewrite replaces; undefined when the whole path is replaced. */
  readonly prefix: string | undefined
  /** True when it holds for every request. */
  readonly isCatchAll: boolean
  holds(request: RoutableRequest): boolean
}

/** Compiles a match; throws `PatternError`. The port and gateways that it names are checked elsewhere. */
export function compileHttpMatch(match: HttpMatch): HttpMatcher {
  const known = compiled.get(match)
  if (known !== undefined) return known
  const tests = testsOf(match)
  const matcher: HttpMatcher = {
    prefix: prefixOf(match),
    isCatchAll: tests.length === 0,
    holds: (request) => tests.every((test) => test(request)),
  }
  compiled.set(match, matcher)
  return matcher
}

/** A match without a path is for every path, all of which begin with a slash. */
function prefixOf({ uri }: HttpMatch): string | undefined {
  if (uri === undefined) return '/'
  return uri.kind === 'prefix' ? uri.value : undefined
}

/** Objects are immutable, so a match is compiled once for all route tables it becomes a part of. */
const compiled = new WeakMap<HttpMatch, HttpMatcher>()

type RequestTest = (request: RoutableRequest) => boolean

function testsOf(match: HttpMatch): RequestTest[] {
  const tests: RequestTest[] = []
  const { uri, method, scheme, authority } = match
  if (method !== undefined) {
    const test = compileStringMatch(method)
    tests.push((request) => test(request.method))
  }
  // Every path begins with a slash, so this prefix says nothing.
  if (uri !== undefined && !(uri.kind === 'prefix' && (uri.value === '/' || uri.value === ''))) {
    const test = compileStringMatch(uri, { ignoreCase: match.ignoreUriCase })
    tests.push(({ target }) => test(target.path))
  }
  if (scheme !== undefined) {
    const test = compileStringMatch(scheme)
    tests.push((request) => test(request.scheme))
  }
  if (authority !== undefined) {
    const test = compileStringMatch(authority, { ignoreCase: authority.kind !== 'regex' })
    tests.push((request) => test(request.authority) || test(hostOf(request.authority)))
  }
  tests.push(...match.headers.map((named) => headerTest(named, true)))
  tests.push(...match.withoutHeaders.map((named) => headerTest(named, false)))
  if (match.queryParams.length > 0) tests.push(queryTest(match.queryParams))
  return tests
}

function headerTest(named: NamedMatch, wanted: boolean): RequestTest {
  const test = compileNamed(named)
  return (request) => {
    const value = request.header(named.name)
    return (value !== undefined && test(value)) === wanted
  }
}

function queryTest(params: readonly NamedMatch[]): RequestTest {
  const tests = params.map((named) => ({ name: named.name, test: compileNamed(named) }))
  return ({ target }) => {
    const values = parseQuery(target.query)
    return tests.every(({ name, test }) => {
      const value = values.get(name)
      return value !== undefined && test(value)
    })
  }
}

function compileNamed({ match }: NamedMatch): TextTest {
  return match.kind === 'present' ? () => true : compileStringMatch(match)
}

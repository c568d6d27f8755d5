import { environmentProxyOf, type HttpProxy, parseHttpProxy } from '../../net/index.ts'
import type { ServerLinkOptions } from './server-link.ts'

/** Which proxy leads to a server, from `edgeTunnel.proxy`: the one given, or what the environment says of it. */
export function proxyChoiceOf(
  proxy: string,
  env: Readonly<Record<string, string | undefined>>,
): ServerLinkOptions['proxyOf'] {
  if (proxy === '') return () => undefined
  if (proxy === 'environment') return (server): HttpProxy | undefined => environmentProxyOf(env, server)
  const given = parseHttpProxy(proxy)
  return () => given
}

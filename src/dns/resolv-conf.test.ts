import assert from 'node:assert/strict'
import { mkdtempDisposable, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type LogFields, type Logger, silentLogger } from '../observability/index.ts'
import { parseResolvConf, parseServer, ResolvConf, textOf } from './resolv-conf.ts'

function createResolvConf(path: string) {
  const clock = { now: 0 }
  const warnings: LogFields[] = []
  const logger: Logger = { ...silentLogger, warn: (fields) => warnings.push(fields) }
  const file = new ResolvConf({ path, logger, now: () => clock.now })
  return { clock, warnings, addresses: async () => (await file.servers()).map(({ address }) => address) }
}

test('name servers are read from resolv.conf as libc reads it', () => {
  const text =
    '# nameserver 1.1.1.1\nsearch a b\nnameserver 192.0.2.1\n  nameserver\t192.0.2.2 # two\nnameserver fe80::1%eth0\nnameserver x\n'
  assert.deepEqual(
    parseResolvConf(text).map(({ address }) => address),
    ['192.0.2.1', '192.0.2.2', 'fe80::1%eth0'],
  )
})

test('configured servers may have ports and be IPv6', () => {
  const servers = ['192.0.2.1', '192.0.2.2:5353', '[2001:db8::1]:54', '2001:db8::2', '[2001:db8::1]']
  assert.deepEqual(servers.flatMap(parseServer).map(textOf), [
    '192.0.2.1:53',
    '192.0.2.2:5353',
    '[2001:db8::1]:54',
    '[2001:db8::2]:53',
    '[2001:db8::1]:53',
  ])
})

test('the first questions all find the resolvers, also those that come while the file is read', async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), 'resolv-'))
  const path = join(directory.path, 'resolv.conf')
  await writeFile(path, 'nameserver 192.0.2.1\n')
  const { addresses, warnings } = createResolvConf(path)
  assert.deepEqual(await Promise.all([addresses(), addresses(), addresses()]), Array(3).fill(['192.0.2.1']))
  assert.deepEqual(warnings, [])
})

test('the resolver file is read again when it changed, at most once a second', async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), 'resolv-'))
  const path = join(directory.path, 'resolv.conf')
  const { addresses, clock, warnings } = createResolvConf(path)
  assert.deepEqual(await addresses(), [])
  assert.equal(warnings.length, 1)
  await writeFile(path, 'nameserver 192.0.2.1\n')
  assert.deepEqual(await addresses(), [])
  clock.now = 1000
  assert.deepEqual(await addresses(), ['192.0.2.1'])
  await writeFile(path, 'nameserver 192.0.2.22\n')
  clock.now = 2000
  assert.deepEqual(await addresses(), ['192.0.2.22'])
  await rm(path)
  clock.now = 3000
  assert.deepEqual(await addresses(), ['192.0.2.22'])
  assert.equal(warnings.length, 2)
})

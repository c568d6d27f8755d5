import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DirectoryRefusedError } from '../directory/directory-session.ts'
import { parseServerAddress } from '../host/server-address.ts'
import { explainFailure, type FailurePlace, ServerIdentityError } from './server-failure.ts'

const address = parseServerAddress('mesh.example.org')
const explain = (error: unknown, place: Partial<FailurePlace> = {}) =>
  explainFailure(error, { address, hasPreSharedKey: true, failedHandshakes: 0, ...place })

for (const [reason, remedy] of [
  ['getaddrinfo EAI_AGAIN mesh.example.org', /check the name in modules\.edgeTunnel/],
  ['getaddrinfo ENOTFOUND mesh.example.org', /this node can resolve it/],
  ['connect ECONNREFUSED 192.0.2.1:20004', /start edgemesh there, or correct the port/],
  ['connect ETIMEDOUT 192.0.2.1:20004', /firewalls on the way/],
  ['connect ENETUNREACH 192.0.2.1:20004 - Local (0.0.0.0:0)', /the route to it/],
] as const) {
  test(`what can be done is said: ${reason}`, () => {
    const explained = explain(new Error('connection error', { cause: new Error(reason) }))
    assert.equal(explained.text, 'server not connected')
    assert.match(explained.reason, new RegExp(reason.slice(0, 20)))
    assert.match(explained.remedy ?? '', remedy)
    assert.equal(explained.isLoud, undefined)
  })
}

test('handshakes that break again and again are the key, also for who reads the status; one may be chance', () => {
  const broken = new Error('read ECONNRESET')
  assert.deepEqual(explain(broken, { failedHandshakes: 1 }), {
    text: 'server not connected',
    reason: 'read ECONNRESET',
  })
  const again = explain(broken, { failedHandshakes: 2 })
  assert.equal(again.text, 'server handshake failed: pre-shared key mismatch likely')
  assert.equal(again.reason, 'pre-shared key mismatch likely: read ECONNRESET')
  assert.match(again.remedy ?? '', /sha256sum/)
  assert.equal(explain(broken, { failedHandshakes: 2, hasPreSharedKey: false }).text, 'server not connected')
})

test('what only a person can end is loud', () => {
  const identity = explain(new ServerIdentityError('it is another one'))
  assert.equal(identity.isLoud, true)
  assert.match(identity.remedy ?? '', /edgemesh unpin mesh\.example\.org/)
  const refused = explain(new DirectoryRefusedError('the name is taken'))
  assert.deepEqual([refused.isLoud, refused.reason], [true, 'the name is taken'])
})

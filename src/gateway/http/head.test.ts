import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { framingOf, isGrpcRequest, isToken, listHas, MessageError, parseFields, splitHead } from './head.ts'
import { HeaderFields } from './header-fields.ts'

const refusedWith = (status: number, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof MessageError)
  assert.equal(error.status, status)
  assert.match(error.message, message)
  return true
}

suite('the lines of a head', () => {
  test('end in CR LF, all of them', () => {
    assert.deepEqual(splitHead('a\r\nb'), ['a', 'b'])
    for (const text of ['a\nb', 'a\rb', 'a\r\r\nb', '\na', 'a\r']) {
      assert.throws(() => splitHead(text), refusedWith(400, /does not end in CR LF/), JSON.stringify(text))
    }
  })

  test('hold no control characters, but tabs and bytes that old clients send', () => {
    assert.deepEqual(splitHead('a: \t\x80\xff'), ['a: \t\x80\xff'])
    for (const byte of ['\0', '\x01', '\x08', '\x0b', '\x0c', '\x1f', '\x7f', '\u0100']) {
      assert.throws(() => splitHead(`a: ${byte}`), refusedWith(400, /control character/), JSON.stringify(byte))
    }
  })

  test('are fields from the given one on', () => {
    const fields = parseFields(['GET / HTTP/1.1', 'A: 1', 'b:2', 'C:  3 \t', 'D:', 'e: a:b'], 1)
    assert.equal(fields.render(), 'A: 1\r\nb: 2\r\nC: 3\r\nD: \r\ne: a:b\r\n')
    assert.deepEqual(fields.lowerNames, ['a', 'b', 'c', 'd', 'e'])
  })

  test('are refused when they have no name that is one', () => {
    for (const line of ['', 'a', ': x', 'a b: x', 'a : x', ' a: x', '\ta: x', 'a@: x', 'a(: x', '"a": x', 'ä: x']) {
      assert.throws(() => parseFields([line], 0), refusedWith(400, /no valid name/), JSON.stringify(line))
    }
  })

  test('are refused when there are too many', () => {
    const lines = Array.from({ length: 257 }, (_, index) => `x-${index}: 1`)
    assert.equal(parseFields(lines, 1).size, 256)
    assert.throws(() => parseFields(lines, 0), refusedWith(431, /more than 256 header fields/))
  })

  test('may have any token as a name, also one that objects have', () => {
    const fields = parseFields(["!#$%&'*+.^_`|~0aA-: 1", 'constructor: 2', '__proto__: 3'], 0)
    assert.deepEqual([fields.get('constructor'), fields.get('__proto__'), fields.size], ['2', '3', 3])
  })
})

suite('the end of a body', () => {
  const fieldsOf = (...fields: readonly (readonly [string, string])[]) => {
    const headers = new HeaderFields()
    for (const [name, value] of fields) headers.add(name, name, value)
    return headers
  }

  test('is told by a length, by chunks, or not at all', () => {
    assert.equal(framingOf(fieldsOf()), undefined)
    assert.deepEqual(framingOf(fieldsOf(['content-length', '0'])), { kind: 'length', length: 0 })
    assert.deepEqual(framingOf(fieldsOf(['content-length', '0123'])), { kind: 'length', length: 123 })
    assert.deepEqual(framingOf(fieldsOf(['transfer-encoding', 'CHUNKED'])), { kind: 'chunked' })
  })

  const wrong: readonly (readonly [readonly (readonly [string, string])[], number])[] = [
    [
      [
        ['content-length', '1'],
        ['content-length', '1'],
      ],
      400,
    ],
    [
      [
        ['transfer-encoding', 'chunked'],
        ['transfer-encoding', 'chunked'],
      ],
      400,
    ],
    [
      [
        ['content-length', '1'],
        ['transfer-encoding', 'chunked'],
      ],
      400,
    ],
    [[['transfer-encoding', 'gzip, chunked']], 501],
    [[['transfer-encoding', 'chunked, identity']], 501],
    [[['transfer-encoding', '']], 501],
    [[['content-length', '']], 400],
    [[['content-length', '-1']], 400],
    [[['content-length', '0x10']], 400],
    [[['content-length', '1 1']], 400],
    [[['content-length', '1e3']], 400],
    [[['content-length', '9999999999999999']], 400],
  ]
  for (const [fields, status] of wrong) {
    test(`is refused as ${status}: ${JSON.stringify(fields)}`, () => {
      assert.throws(() => framingOf(fieldsOf(...fields)), refusedWith(status, /./))
    })
  }
})

test('a list has a word in any case, between commas and blanks', () => {
  for (const list of ['close', 'CLOSE', 'a, close', 'close,a', 'a ,\tclose , b'])
    assert.ok(listHas(list, 'close'), list)
  for (const list of [undefined, '', 'closed', 'a close', 'clos']) assert.equal(listHas(list, 'close'), false)
})

test('gRPC is told by its type, gRPC-Web is not', () => {
  const isGrpc = (type: string) => {
    return isGrpcRequest({ headers: HeaderFields.of({ 'Content-Type': type }) } as Parameters<typeof isGrpcRequest>[0])
  }
  for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc;x=1']) assert.ok(isGrpc(type))
  for (const type of ['', 'application/grpc-web', 'application/grpc-web-text+proto', 'text/application/grpc']) {
    assert.equal(isGrpc(type), false, type)
  }
})

test('methods and names are tokens', () => {
  for (const text of ['GET', 'get', 'M-SEARCH', 'x_y', '~']) assert.ok(isToken(text), text)
  for (const text of ['', 'GET ', 'G/T', 'G:T', 'G\u00e4T', 'G,T', '(GET)']) assert.equal(isToken(text), false, text)
})

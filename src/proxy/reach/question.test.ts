import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { encodeAnswer, encodeQuestion, isAnswerTo, newAgreement, newNonce, readQuestion } from './question.ts'

const agreement = newAgreement()
const question = { agreement, nonce: newNonce(), address: '10.244.2.3' }
const known = (id: string) => (id === agreement.id.toString('hex') ? agreement : undefined)

test('a question arrives as it was asked, and its answer belongs to it alone', () => {
  assert.deepEqual(readQuestion(encodeQuestion(question), known), question)
  const answer = encodeAnswer(question)
  assert.equal(isAnswerTo(question, answer), true)
  assert.equal(isAnswerTo({ ...question, nonce: newNonce() }, answer), false)
  assert.equal(isAnswerTo({ ...question, address: '10.244.2.4' }, answer), false)
})

test('an answer is as long as its question', () => {
  assert.equal(encodeAnswer(question).length, encodeQuestion(question).length)
})

test('whoever does not have the key cannot ask or answer, nor send a question back as an answer', () => {
  const stranger = { ...newAgreement(), id: agreement.id }
  assert.equal(readQuestion(encodeQuestion({ ...question, agreement: stranger }), known), undefined)
  assert.equal(isAnswerTo(question, encodeAnswer({ ...question, agreement: stranger })), false)
  assert.equal(isAnswerTo(question, encodeQuestion(question)), false)
  assert.equal(
    readQuestion(encodeQuestion(question), () => undefined),
    undefined,
  )
})

test('no change of a bit goes unnoticed', () => {
  for (const [at, byte] of encodeQuestion(question).entries()) {
    const changed = encodeQuestion(question)
    changed[at] = byte ^ 1
    assert.equal(readQuestion(changed, known), undefined, `byte ${at}`)
  }
})

test('datagrams of any other kind are not read', () => {
  for (let length = 0; length < 120; length++) {
    assert.equal(
      readQuestion(randomBytes(length), () => agreement),
      undefined,
    )
    assert.equal(isAnswerTo(question, randomBytes(length)), false)
  }
})

<?php

use PHPUnit\Framework\TestCase;

final class AnswerTest extends TestCase
{
    public function testAnswer(): void
    {
        $this->assertSame(42, answer());
    }
}

<?php

function answer(): int
{
    return Double\of(21);
}
